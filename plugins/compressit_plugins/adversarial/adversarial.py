"""`eval.adversarial`: how little an input must change to be answered wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Array, Curve, Declared, Evaluator, Metric, Picture, Task, Work, hookimpl
from compressit_plugins.adversarial.options import AdversarialConfig, told, work

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Adversarial(Evaluator[AdversarialConfig]):
    """Accuracy under attack (FGSM, PGD), the distance of the nearest wrongly answered inputs, and pictures of them.

    Szegedy et al. 2014, "Intriguing properties of neural networks"; the attacks are those of Goodfellow et al. 2015,
    Madry et al. 2018 and, for the nearest, Pintor et al. 2021 (FMN). Changed inputs stay in the range of the data. An
    accuracy under attack is an upper bound: a stronger attack finds more. The controls are as large: random signs
    beside FGSM and PGD (of `l2`, a random direction), and noise as far away as the nearest wrong input.

    Distances are those of inputs that are answered right. Neither they nor the steps depend on the logits' scale. An
    attack can fail for lack of useful gradients, without the net being robust (Athalye et al. 2018).
    """

    name = "eval.adversarial"
    tasks = frozenset({"task.classification"})
    example: ClassVar[Mapping[str, Any]] = {"images": 12, "steps": 3, "nearest": 10}

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A target that is no class."""
        target, names = self.config.target, task.posed.names
        known = target in names if isinstance(target, str) else 0 <= (target or 0) < task.outputs
        return (
            {}
            if known or target is None
            else {"target": f"is {target!r}, and the classes are {', '.join(names)}"}
        )

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """A number and a curve of each attack and its control, and what is known of the nearest wrong inputs."""
        how = self.config
        y, better, of = ("accuracy", "higher", "test examples answered right")
        if how.target is not None:
            y, better, of = ("reached", "lower", f"test examples of other classes answered with {how.target}")
        found: dict[str, Declared] = {
            f"attacked_{y}": Metric(better, "fraction", f"{of}, of those attacked, as they are")
        }
        size = "largest change of a value" if how.norm == "linf" else "length of the change"
        kinds = {"fgsm": (how.fgsm, "one gradient step"), "pgd": (how.pgd, "projected gradient descent"),
                 "random": (how.sizes(), "a random change as large")}  # fmt: skip
        for kind, (sizes, by) in kinds.items():
            for each in sizes:
                found[f"{kind}_{told(each)}_{y}"] = Metric(
                    better, "fraction", f"{of} after {by}; {size}: {each:g}"
                )
            if sizes:
                found[f"{kind}_{y}"] = Curve(size, f"{y} (fraction)", f"{of} after {by}; at 0 as they are")
        return {**found, **(_nearest() if how.nearest else {})}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for inputs other than one tensor of floats, for data without a test split, and for a
        net without gradients."""
        from compressit_plugins.adversarial.attacked import measured

        return measured(model, ctx, self.config)

    def work(self, images: int) -> Work:
        """The passes of all attacks; fewer if they succeed early."""
        how = self.config
        searches = (how.steps + 1) * how.restarts * len(how.pgd)
        return work(how.images, searches + len(how.fgsm) + how.nearest)


def _nearest() -> dict[str, Declared]:
    right = "of those answered right as they are"
    return {
        "adversarial_found": Metric(
            "neither", "fraction", f"test examples with a wrongly answered input within the bound, {right}"
        ),
        "adversarial_distance": Metric(
            "higher",
            "units of the inputs",
            f"Euclidean distance of the nearest wrongly answered input, mean {right}",
        ),
        "adversarial_distance_median": Metric("higher", "units of the inputs", "the same, the median"),
        "adversarial_rms": Metric(
            "higher",
            "units of the inputs",
            f"root mean square of that change over an input's values, mean {right}",
        ),
        "equal_noise_changed": Metric(
            "neither", "fraction", "of these, those answered otherwise after random noise as far away"
        ),
        "adversarial_within": Curve(
            "distance (units of the inputs)",
            "examples (fraction)",
            f"with a wrongly answered input that near, {right}",
        ),
        "adversarial_distances": Array(
            "the distance; NaN where none was searched or found", ("test example",)
        ),
        "adversarial_examples": Picture(
            "inputs, ten times their change, and the nearest wrongly answered inputs"
        ),
    }


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Adversarial]
