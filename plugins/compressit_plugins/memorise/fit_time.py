"""`eval.fit_time`: how many steps a net of this shape needs to learn true labels, and random ones by heart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Curve, Evaluator, Metric, Task, Work, hookimpl
from compressit_plugins.memorise.options import FitTimeConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class FitTime(Evaluator[FitTimeConfig]):
    """Optimizer steps until a net of this shape fits the given labels, and random ones, of some training examples.

    Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", and Arpit et al. 2017, "A
    closer look at memorization in deep networks": nets learn both, and random labels more slowly.

    The accuracy is that of all these examples at the end of each epoch, so a number of steps is that of whole epochs; a
    smaller `batch_size` or `images` counts finer. A training that the limit ends before `reach` has no number of steps:
    its `reached` is 0. It depends on the optimizer and its rate, and with them on the scale of each layer.
    """

    name = "eval.fit_time"
    example: ClassVar[Mapping[str, Any]] = {"images": 32, "epochs": 2}
    tasks = frozenset({"task.classification"})

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve]:
        """Steps, whether they sufficed, accuracy and its curve, for each kind of labels; the ratio of two."""
        found: dict[str, Metric | Curve] = {}
        for labels in self.config.labels:
            of, reach = f"{labels} labels", f"{self.config.reach:g} of the {labels} labels"
            found |= {
                f"{labels}_fit_steps": Metric("neither", "steps", f"until a net like this fits {reach}"),
                f"{labels}_fit_reached": Metric(
                    "neither", "fraction", f"1: it fits {reach}; 0: not within the limit, or it diverged"
                ),
                f"{labels}_fit_accuracy": Metric(
                    "neither", "fraction", f"on the {of}, where that training ended"
                ),
                f"{labels}_fit": Curve("optimizer steps", "accuracy", f"on the {of}, while they are learned"),
            }
        if len(self.config.labels) > 1:
            found["fit_steps_ratio"] = Metric("neither", "ratio", "steps for random labels over given ones")
        return found

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a layer that cannot be given fresh weights (`start: fresh`)."""
        from compressit_plugins.memorise.fitting import fit_times

        return fit_times(model, ctx, self.config)

    def work(self, images: int) -> Work:
        """As if no training reached its end before the limit."""
        config, shown = self.config, min(images, self.config.images)
        steps = len(config.labels) * config.total_steps(shown)
        return Work(
            steps,
            config.images_per_step(shown),
            forwards=len(config.labels) * config.total_epochs(shown) * shown,
        )


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.fit_time`."""
    return [FitTime]
