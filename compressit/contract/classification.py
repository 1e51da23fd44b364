"""Tasks whose targets are classes. `task.classification`, which every dataset with `classes` poses, is one of them.

The core brings this one task itself, so that a dataset needs no plugin for what is usual. Others are plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from compressit.config import Config
from compressit.contract.records import Metric
from compressit.contract.tasks import Match, Task
from compressit.datasets.task_spec import CLASSIFICATION

if TYPE_CHECKING:
    from torch import Tensor


class ClassesConfig(Config):
    """Options of every task whose targets are classes."""

    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="fraction of the target spread evenly over all classes, in training",
    )
    class_weights: Literal["balanced"] | tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None,
        description="weight of each class in the training loss, in label order; balanced: in inverse proportion to "
        "how often it is in the training targets; default: all the same",
    )


O = TypeVar("O", bound=ClassesConfig)  # noqa: E741 - options


class ClassTask(Task[O]):
    """Base of tasks whose targets are one class of several: of an example, or of each pixel."""

    logits = True
    training = frozenset({"label_smoothing", "class_weights"})

    def misfits(self) -> Mapping[str, str]:
        """Weights for another number of classes."""
        weights = self.config.class_weights
        if weights is None or weights == "balanced" or len(weights) == self.outputs:
            return {}
        return {"class_weights": f"has {len(weights)} numbers, and there are {self.outputs} classes"}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, with the smoothing, without the weights; of pixels, the mean of those that count."""
        from torch.nn.functional import cross_entropy

        smoothed = {"label_smoothing": self.config.label_smoothing, "ignore_index": self._ignored}
        values = cross_entropy(outputs, targets, reduction="none", **smoothed)  # type: ignore[arg-type]
        if values.ndim == 1:
            return values
        return values.flatten(1).sum(1) / (targets != self._ignored).flatten(1).sum(1).clamp_min(1)

    def objective(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross-entropy of a batch, as torch's with these weights: divided by the sum of the targets' weights."""
        from torch.nn.functional import cross_entropy

        options: dict[str, Any] = {"label_smoothing": self.config.label_smoothing}
        if self.config.class_weights is not None:
            options["weight"] = self.weights(targets)
        if self.ignored is not None:
            options["ignore_index"] = self._ignored
        return partial(cross_entropy, **options)

    def weights(self, targets: Tensor) -> Tensor:
        """The weight of each class, (outputs,) float32 on the targets' device. `balanced`: N / (classes * count), as
        scikit-learn; 0 for a class without a target."""
        import torch

        given = self.config.class_weights
        if given != "balanced":
            return torch.tensor(given or (1.0,) * self.outputs, device=targets.device)
        counts = targets[targets != self._ignored].bincount(minlength=self.outputs)
        weights = counts.sum() / (self.outputs * counts.clamp_min(1)).float()
        return weights * (counts > 0)

    def distance(self, outputs: Tensor, taught: Tensor, match: Match, temperature: float) -> Tensor:
        """T² * KL(softmax(taught / T) || softmax(outputs / T)), the mean over the examples or pixels.

        The factor T² keeps its gradients about the same size when T changes (Hinton, Vinyals & Dean 2015, section 2).
        Of logits, their mean squared error (Ba & Caruana 2014), twice the limit of the other one for a high T and
        centred logits.
        """
        from torch.nn import functional as F

        if match == "logits":
            return F.mse_loss(outputs, taught)
        student, teacher = (F.log_softmax(logits / temperature, 1) for logits in (outputs, taught))
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
        pixels = outputs[0, 0].numel()
        return divergence / pixels if pixels > 1 else divergence

    def agreement(self, outputs: Tensor, taught: Tensor) -> float:
        """The fraction of examples, or pixels, with the same largest logit. A NaN agrees with nothing."""
        from compressit.contract.measure import answers

        ours, theirs = answers(outputs), answers(taught)
        return float(((ours == theirs) & (ours >= 0)).double().mean())

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How often each class (row) was answered with each (column): (K, K + 1) int64, K being the larger of
        `outputs` and the model's outputs; the last column counts answers that are NaN."""
        from compressit.contract.measure import answers

        counting = targets != self._ignored
        wanted, given = targets[counting], answers(outputs)[counting]
        size = max(self.outputs, outputs.shape[1])
        given = given.masked_fill(given < 0, size)
        return (wanted * (size + 1) + given).bincount(minlength=size * (size + 1)).view(size, size + 1)

    @property
    def _ignored(self) -> int:
        return -100 if self.ignored is None else self.ignored  # torch's default, which is no label


class ClassificationConfig(ClassesConfig):
    """Options of classification."""

    top_k: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default=(),
        description="also measure how often the right class is among the k largest logits, for each k",
    )
    loss: Literal["cross_entropy", "squared"] = Field(
        default="cross_entropy",
        description="what a training minimises: cross-entropy, or the mean squared error of the outputs against 1 for "
        "the right class and 0 for the others",
    )

    @field_validator("loss")
    @classmethod
    def _alone(cls, loss: str, info: ValidationInfo) -> str:
        if loss == "squared":
            for name in ("label_smoothing", "class_weights"):
                if info.data.get(name, cls.model_fields[name].default) != cls.model_fields[name].default:
                    raise ValueError(f"is 'squared', which has no `{name}`: leave one of them out")
        return loss


class Classification(ClassTask[ClassificationConfig]):
    """Every example is of one class: by default cross-entropy of logits (N, classes) and labels (N,)."""

    name = CLASSIFICATION
    target = "class"
    watch = "accuracy"
    example: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.1, "class_weights": "balanced", "top_k": [2]}

    def misfits(self) -> Mapping[str, str]:
        """Also a k that every answer is right for."""
        large = [k for k in self.config.top_k if k >= self.outputs]
        told = {"top_k": f"has {large[0]}, and there are {self.outputs} classes"} if large else {}
        return {**super().misfits(), **told}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, with the smoothing, without the weights; or the mean square of an example's errors."""
        if self.config.loss == "cross_entropy":
            return super().loss(outputs, targets)
        from torch.nn import functional as F

        wanted = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
        return F.mse_loss(outputs, wanted, reduction="none").mean(1)

    def objective(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Torch's cross-entropy of a batch, with the weights; or the mean of `loss`."""
        if self.config.loss == "cross_entropy":
            return super().objective(targets)
        return lambda outputs, wanted: self.loss(outputs, wanted).mean()

    def measures(self) -> Mapping[str, Metric]:
        """Accuracy, macro F1, and top-k accuracies if asked for."""
        top = {
            f"top{k}_accuracy": Metric("higher", "fraction", f"right class among {k}")
            for k in self.config.top_k
        }
        f1 = Metric("higher", "fraction", "F1 of a class, averaged over the classes")
        return {"accuracy": Metric("higher", "fraction", "right answers"), "macro_f1": f1, **top}

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """A row with a NaN counts as wrong. F1 of classes that are neither a label nor an answer does not count."""
        from compressit.contract.measure import answers

        found = {"accuracy": float((answers(outputs) == targets).double().mean())}
        counts = self.confusion(outputs, targets)
        hits, real, told = counts.diagonal(), counts.sum(1), counts[:, :-1].sum(0)
        there = real + told > 0
        found["macro_f1"] = float((2 * hits[there] / (real + told)[there]).double().mean())
        for k in self.config.top_k:
            top = outputs.topk(min(k, outputs.shape[1])).indices
            right = (top == targets[:, None]).any(1) & ~outputs.isnan().any(1)
            found[f"top{k}_accuracy"] = float(right.double().mean())
        return found

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Where the largest logit is the label's, or a teacher's largest."""
        from compressit.contract.measure import answers

        if outputs.ndim != 2:
            return None
        return answers(outputs) == (targets if targets.ndim == 1 else targets.argmax(1))


def usual() -> Classification:
    """A classification with default options, of whatever data: what a context without a task has."""
    return Classification(ClassificationConfig())
