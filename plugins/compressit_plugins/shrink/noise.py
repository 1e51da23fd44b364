"""`shrink.noise`: a narrower student fitted to noise that the teacher labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Compressor, Task, Work, hookimpl
from compressit_plugins.shrink.noise_options import NoiseConfig
from compressit_plugins.shrink.student import Student

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext

# Cost of drawing an image, in forward passes of the teacher: one random number per pixel; for a full covariance also
# a product with a (pixels x pixels) matrix, about as much as a large layer; two small products to blur; two Fourier
# transforms. Measured for 784 pixels on one core: 3.4, 10.4, 6.6 and 10.9 µs, where the net 784-512-512-10 takes 11 µs.
_DRAWING = {"covariance": 1.0, "smooth": 0.6, "spectrum": 1.0}
_A_NUMBER_EACH = 0.3


class NoiseShrinking(Student[NoiseConfig]):
    """Fit a narrower net to noise labelled by the teacher. General knowledge should survive, memorised labels not."""

    name = "shrink.noise"
    example: ClassVar[Mapping[str, Any]] = {**Student.example, "images": 64}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Returns the trained student."""
        from compressit_plugins.shrink.noise_fit import fit_to_noise

        student = self.student(model, ctx)
        return fit_to_noise(student, ctx.model(self.config.teacher), ctx, self.config)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A teacher without classes gives outputs only."""
        labels = self.config.labels
        if labels == "logits" or task.target != "vector":
            return {}
        return {
            "labels": f"is '{labels}', and the answers of {task.name} are no classes: use `labels: logits`"
        }

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student before it is trained. Raises CompressitError for data whose noise has no meaning (several inputs,
        token ids, no bounds, no neighbours), for norms that are not there, and for an output layer that does not
        fit; the teacher's are known here where it is the given model."""
        from compressit_plugins.shrink.noise_head import take_over_head
        from compressit_plugins.shrink.noise_inputs import noisy
        from compressit_plugins.shrink.noise_norms import check_student_norms, labelling

        config = self.config
        noisy(config.noise, ctx.data.contract.inputs)
        student = super().dry_run(model, ctx)
        check_student_norms(student, config.student_norms)
        if config.teacher == "previous":
            labelling(model, config.teacher_norms)
            if config.head == "teacher":
                take_over_head(student, model, ctx)
        return student

    def work(self, images: int, times: int) -> Work:
        """Training on noise images, each of which is drawn and labelled by the teacher."""
        c, drawn = self.config, self.config.images
        steps, batch = c.total_steps(drawn), c.images_per_step(drawn)
        drawn *= c.total_epochs(drawn) if c.redraw == "epoch" else 1
        return Work(steps, batch, c.width**times, round(drawn * (1 + _DRAWING.get(c.noise, _A_NUMBER_EACH))))


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [NoiseShrinking]
