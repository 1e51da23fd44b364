"""`train.sphere`: training with weights of constant norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Task, Trainer, Work, hookimpl
from compressit_plugins.subspace.options import SphereConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Sphere(Trainer[SphereConfig]):
    """Training on a sphere: at the start and after every step all weights are rescaled to one norm.

    After Liu et al., "Omnigrok: grokking beyond algorithmic data" (2023), who keep the initial norm. The norm is that
    of all parameters that learn, biases and scales of norms too; pruned weights stay zero. The unit of `radius` is the
    norm of Glorot's initialisation (Glorot & Bengio 2010), of weights only and without pruned ones: the root of the sum
    of 2 · weights / (inputs + outputs) over the matrices, 23.2 for 784-200-200-10.
    """

    name = "train.sphere"
    example: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Notes `radius` (the norm), `glorot_radii` (in that unit) and `output_scale`: the root mean square of the
        outputs, about their mean for each example, on at most 2,000 training examples. For classes that is the scale of
        the logits, which a softmax temperature would divide.

        Never uses the test split. Raises CompressitError for weights that are all zero, and if an option needs a
        validation split and there is none."""
        from compressit_plugins.subspace.training import on_sphere

        return on_sphere(model, ctx, self.config)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A `monitor` that the task does not measure."""
        return self.config.unmeasured(task)

    def work(self, images: int) -> Work:
        """The configured steps; fewer if it stops early."""
        return Work(self.config.total_steps(images), self.config.images_per_step(images))


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Sphere]
