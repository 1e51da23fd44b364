"""`train.subspace`: training in a random subspace of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Task, Trainer, Work, hookimpl
from compressit_plugins.subspace.options import SubspaceConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Subspace(Trainer[SubspaceConfig]):
    """Training in a random subspace: the weights are where they started, plus a random basis times a few coordinates.

    After Li et al., "Measuring the intrinsic dimension of objective landscapes" (2018); with `radius` on a hypersphere,
    as Fort & Scherlis, "The Goldilocks zone" (2019). The optimizer sees the coordinates alone, which begin at zero.
    Directions are random in all parameters that learn, biases and scales of norms too; pruned weights are not there,
    so they stay zero. What is found depends on how the net is written: scaling a layer up and the next one down changes
    no answer of a ReLU net, but the subspace, and the norm.
    """

    name = "train.subspace"
    example: ClassVar[Mapping[str, Any]] = {"dimension": 40, "epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Returns the given net with the weights that were found. Notes `subspace_of`, the number of weights that the
        subspace lies in, and with `radius` what `train.sphere` notes. Its sphere of that radius has `dimension`
        dimensions: it lies in what the first weights and the basis span together, and all of these directions learn.

        Never uses the test split. Raises CompressitError for more dimensions than weights, a dense basis of more than
        2 GiB, and an option that needs a validation split where there is none."""
        from compressit_plugins.subspace.training import in_subspace

        return in_subspace(model, ctx, self.config)

    def dry_run(self, model: nn.Module, ctx: StageContext) -> None:
        """Raises CompressitError as `train` does, for the net's shapes."""
        from compressit_plugins.subspace.training import check_subspace

        check_subspace(model, ctx, self.config)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A `monitor` that the task does not measure."""
        return self.config.unmeasured(task)

    def work(self, images: int) -> Work:
        """The configured steps; fewer if it stops early."""
        return Work(self.config.total_steps(images), self.config.images_per_step(images))


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Subspace]
