"""`eval.critical_samples`: how many examples have another answer nearby, and how unequally the loss feels them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Curve, Declared, Evaluator, Metric, Task, Work, hookimpl
from compressit_plugins.adversarial.options import CriticalSamplesConfig, told, work

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class CriticalSamples(Evaluator[CriticalSamplesConfig]):
    """The critical sample ratio, and the Gini coefficient of the loss's sensitivity to its examples.

    Arpit et al. 2017, "A closer look at memorization in deep networks". An example is critical if an input in the box
    around it, of values at most so much larger or smaller, has another answer than its own. They search the box by
    Langevin dynamics; here projected gradient descent on the cross-entropy of the own answer stands in for that, so
    ratios compare with each other, not with theirs. A search can miss: the ratio is a lower bound.

    The sensitivity of an example is the mean absolute gradient of its loss with respect to its input, of this model;
    they average it over a training. Its Gini coefficient is 0 where all examples are alike, near 1 where few matter. It
    falls to noise where the loss is 0 for all, and it does not keep its value when logits are rescaled.
    """

    name = "eval.critical_samples"
    tasks = frozenset({"task.classification"})
    example: ClassVar[Mapping[str, Any]] = {"images": 12, "steps": 3}

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """A ratio for every radius, their curve, and the sensitivity of the loss."""
        of = f"{self.config.split} examples"
        ratios = {
            f"critical_samples_{told(radius)}": Metric(
                "neither", "fraction", f"{of} with another answer in a box of half side {radius:g}"
            )
            for radius in self.config.radii
        }
        return {
            **ratios,
            "critical_samples": Curve(
                "half side of the box (units of the inputs)",
                f"{of} (fraction)",
                "with another answer in the box",
            ),
            "loss_sensitivity": Metric(
                "neither", "nats per unit of the inputs", f"mean absolute gradient of the loss, mean of {of}"
            ),
            "loss_sensitivity_gini": Metric(
                "neither", "Gini coefficient", f"how unequal that is: 0, if it is the same for all {of}"
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for inputs other than one tensor of floats, for data without the split, and for a net
        without gradients."""
        from compressit_plugins.adversarial.critical import measured

        return measured(model, ctx, self.config)

    def work(self, images: int) -> Work:
        """The passes of all searches; fewer if they succeed early."""
        how = self.config
        return work(how.images, 1 + (how.steps + 1) * how.restarts * len(how.radii))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [CriticalSamples]
