"""Base of compressors that make a student: a narrower net, trained from fresh weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from compressit import Compressor, FitConfig, Work, ratio

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class StudentConfig(FitConfig):
    """Options of every student."""

    width: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="multiplies each hidden width, rounded up",
        json_schema_extra=ratio(0.1, 0.95),
    )


S = TypeVar("S", bound=StudentConfig)


class Student(Compressor[S]):
    """A narrower net, trained from fresh weights."""

    example: ClassVar[Mapping[str, Any]] = {"width": 0.5, "epochs": 3, "batch_size": 32}

    def student(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """A student with fresh weights: the original architecture, with hidden widths times `width` once per round. If
        the model plugin has no `with_width`, the model is pruned structurally instead.

        Notes the fraction of the widest hidden layer that was `requested` and `achieved` (rounding up keeps more).
        Raises CompressitError if neither way is possible.
        """
        from compressit import hidden_width

        width, times = self.config.width, ctx.times()
        student = ctx.with_width(width, times)
        if student is None:
            from compressit_plugins.shrink.skeleton import skeleton
            from compressit_plugins.train.fresh_weights import as_built

            seed = ctx.streams.number("student", ctx.init.draw or None)
            inputs, built = ctx.data.contract.inputs, as_built(ctx)
            student = skeleton(model, width, inputs, seed, times, ctx.init, built)
        before, after = hidden_width(model), hidden_width(student)
        if before and after:
            ctx.note(requested=width**times, achieved=after / before)
        return student

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student before it is trained."""
        return self.student(model, ctx)

    def work(self, images: int, times: int) -> Work:
        """Every round takes the same number of steps, on a narrower net each time."""
        c = self.config
        return Work(c.total_steps(images), c.images_per_step(images), c.width**times)
