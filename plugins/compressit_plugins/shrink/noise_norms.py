"""Batch norms on noise, whose statistics are not those of the data that the teacher has seen."""

from __future__ import annotations

from itertools import islice

from torch import Tensor, nn

from compressit import CompressitError, StageContext, copied, tensors_of
from compressit_plugins.prune.batch_norm import recalibrate, running_norms
from compressit_plugins.shrink.noise_options import NoiseConfig

_MEASURED = 4096  # inputs that the student's statistics are measured on


def labelling(teacher: nn.Module, norms: str) -> nn.Module:
    """The teacher as it labels noise: itself, or for `batch` a copy whose batch norms use the statistics of each batch,
    in eval mode too, and keep none of their own.

    Raikwar & Mishra, "Discovering and overcoming limitations of noise-engineered data-free knowledge distillation"
    (2022): with running statistics, activations on noise drift away, layer by layer, from those that later layers know.
    Their teacher runs in train mode; here only its batch norms do. Raises CompressitError if it has no such norms.
    """
    if norms == "running":
        return teacher
    copy = copied(teacher)
    found = running_norms(copy)
    if not found:
        raise CompressitError(
            f"the teacher ({type(teacher).__name__}) has no batch norm with running statistics, so "
            "`teacher_norms: batch` has no effect",
            "remove it",
        )
    for norm in found:
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        norm.track_running_stats = False
    return copy.eval()


def check_student_norms(student: nn.Module, norms: str) -> None:
    """Raises CompressitError if the student's statistics are to be measured and it keeps none."""
    if norms != "running" and not running_norms(student):
        raise CompressitError(
            f"the student ({type(student).__name__}) has no batch norm with running statistics, so "
            f"`student_norms: {norms}` has no effect",
            "remove it",
        )


def measure_student_norms(student: nn.Module, noise: Tensor, ctx: StageContext, options: NoiseConfig) -> int:
    """Measures the student's running statistics again, in place, on the training inputs or on `noise` (N, ...).
    Returns of how many batches they are."""
    check_student_norms(student, options.student_norms)
    size = max(2, options.images_per_step(len(noise)))

    if options.student_norms == "noise":
        batches = iter(noise[:_MEASURED].split(size))
    else:
        epoch = options.total_epochs(len(noise))  # whose order no training of this stage has seen
        some = islice(ctx.data.train.batches(size, epoch), -(-_MEASURED // size))
        batches = (tensors_of(x)[0] for x, _ in some)
    return recalibrate(student, map(ctx.compute.typed, batches))
