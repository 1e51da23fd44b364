"""`task.multilabel`: every example has any number of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressit import CompressitError, Config, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from compressit_plugins.distill.options import Match


class MultilabelConfig(Config):
    """Options of multilabel classification."""

    positive_weights: Literal["balanced"] | tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None,
        description="weight of a label that is set in the training loss, for each label; balanced: how many examples "
        "lack the label for each one that has it; default: 1",
    )


class Multilabel(Task[MultilabelConfig]):
    """Every example has any number of labels: binary cross-entropy of logits and 0 or 1, (N, labels) both."""

    name = "task.multilabel"
    target = "vector"
    logits = True
    watch = "macro_f1"
    training = frozenset({"positive_weights"})
    example: ClassVar[Mapping[str, Any]] = {"positive_weights": "balanced"}

    def misfits(self) -> Mapping[str, str]:
        """Weights for another number of labels."""
        weights = self.config.positive_weights
        if weights is None or weights == "balanced" or len(weights) == self.outputs:
            return {}
        return {"positive_weights": f"has {len(weights)} numbers, and there are {self.outputs} labels"}

    def targets(self, given: Tensor) -> Tensor:
        """(N, labels) float32 of 0 and 1. Raises CompressitError for anything else."""
        values = super().targets(given)
        if not bool(((values == 0) | (values == 1)).all()):
            low, high = (float(end) for end in values.aminmax())
            raise CompressitError(
                f"targets go from {low:g} to {high:g}, not 0 and 1",
                "give each example a 0 or 1 for each label",
            )
        return values

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats without the weights, the mean over an example's labels."""
        return self._cross_entropy(outputs, targets, None)

    def objective(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The mean of binary cross-entropies, with the weights."""
        import torch

        weights = self.config.positive_weights
        if weights == "balanced":
            count = targets.sum(0)
            both = (count > 0) & (
                count < len(targets)
            )  # else there is nothing to balance: 0 would teach nothing
            weight = torch.where(both, (len(targets) - count) / count.clamp_min(1), 1.0)
        else:
            weight = None if weights is None else torch.tensor(weights, device=targets.device)
        return lambda outputs, wanted: self._cross_entropy(outputs, wanted, weight).mean()

    def distance(self, outputs: Tensor, taught: Tensor, match: Match, temperature: float) -> Tensor:
        """T² times the Kullback-Leibler divergence of each label's two probabilities, softened by T, the mean over
        labels and examples. Of logits, their mean squared error."""
        from torch.nn import functional as F

        if match == "logits":
            return F.mse_loss(outputs, taught)
        ours, theirs = outputs / temperature, taught / temperature
        probability = theirs.sigmoid()
        divergence = probability * (F.logsigmoid(theirs) - F.logsigmoid(ours))
        divergence = divergence + (1 - probability) * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
        return divergence.mean() * temperature**2

    def measures(self) -> Mapping[str, Metric]:
        """A label is answered where its logit is above 0."""
        return {
            "label_accuracy": Metric("higher", "fraction", "right answers, of every label of every example"),
            "exact": Metric("higher", "fraction", "examples with every label right"),
            "macro_f1": Metric("higher", "fraction", "F1 of a label, averaged over the labels"),
        }

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """F1 is 0 for a label that is never set and never answered, as in scikit-learn. A NaN is wrong."""
        wanted, given = targets > 0.5, outputs > 0
        right = (wanted == given) & ~outputs.isnan()
        f1 = 2 * (wanted & given).sum(0) / (wanted.sum(0) + given.sum(0)).clamp_min(1).double()
        accuracy, exact = float(right.double().mean()), float(right.all(1).double().mean())
        return {"label_accuracy": accuracy, "exact": exact, "macro_f1": float(f1.mean())}

    def agreement(self, outputs: Tensor, taught: Tensor) -> float:
        """The fraction of labels, of all examples, with the same answer. A NaN agrees with nothing."""
        same = ((outputs > 0) == (taught > 0)) & ~outputs.isnan() & ~taught.isnan()
        return float(same.double().mean())

    def _cross_entropy(self, outputs: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        self.check(outputs, len(targets))
        return cross_entropy(outputs, targets, reduction="none", pos_weight=weight).mean(1)


@hookimpl
def compressit_tasks() -> list[type[Task[Any]]]:
    """Registers `task.multilabel`."""
    return [Multilabel]
