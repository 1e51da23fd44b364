"""`task.segmentation`: every pixel of an image is of one class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import ClassesConfig, ClassTask, CompressitError, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


class SegmentationConfig(ClassesConfig):
    """Options of segmentation."""

    ignore_index: int | None = Field(
        default=None, description="label of pixels that do not count, like 255; default: all count"
    )


class Segmentation(ClassTask[SegmentationConfig]):
    """Every pixel is of one class: cross-entropy of logits (N, classes, H, W) and labels (N, H, W)."""

    name = "task.segmentation"
    target = "map"
    watch = "miou"
    example: ClassVar[Mapping[str, Any]] = {"ignore_index": 255}

    @property
    def ignored(self) -> int | None:
        return self.config.ignore_index

    def misfits(self) -> Mapping[str, str]:
        """Also a label that is a class."""
        ignored = self.config.ignore_index
        told = (
            f"is {ignored}, which is a class" if ignored is not None and 0 <= ignored < self.outputs else ""
        )
        return {**super().misfits(), **({"ignore_index": told} if told else {})}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats, the mean over an example's pixels that count.

        Raises CompressitError for maps of other sizes.
        """
        self._check_sizes(outputs, targets)
        return super().loss(outputs, targets)

    def objective(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The mean over a batch's pixels that count, as torch's cross-entropy; 0 where none counts, which torch calls
        NaN: a training would end as diverged."""
        import torch

        whole = super().objective(targets)

        def minimised(outputs: Tensor, wanted: Tensor) -> Tensor:
            self._check_sizes(outputs, wanted)
            value = whole(outputs, wanted)
            if self.ignored is None:
                return value
            return torch.where((wanted != self.ignored).any(), value, 0 * outputs.sum())

        return minimised

    def measures(self) -> Mapping[str, Metric]:
        """Over all pixels that count, of all images together."""
        return {
            "miou": Metric(
                "higher", "fraction", "intersection over union of a class, averaged over the classes"
            ),
            "pixel_accuracy": Metric("higher", "fraction", "pixels with the right class"),
        }

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Classes that are neither a label nor an answer do not count; a NaN is a wrong answer of no class."""
        counts = self.confusion(outputs, targets)
        hits, real, told = counts.diagonal(), counts.sum(1), counts[:, :-1].sum(0)
        union = real + told - hits
        if not int(real.sum()):
            return {}
        overlap = hits[union > 0] / union[union > 0].double()
        return {"miou": float(overlap.mean()), "pixel_accuracy": float(hits.sum() / real.sum().double())}

    def _check_sizes(self, outputs: Tensor, targets: Tensor) -> None:
        self.check(outputs, len(targets))
        if outputs.shape[2:] != targets.shape[1:]:
            raise CompressitError(
                f"the net answers with maps of {tuple(outputs.shape[2:])}, and targets are {tuple(targets.shape[1:])}",
                "let the net end with an interpolation to the size of its inputs",
            )


@hookimpl
def compressit_tasks() -> list[type[Task[Any]]]:
    """Registers `task.segmentation`."""
    return [Segmentation]
