"""`eval.intrinsic_dimension`: in how few dimensions a net of this shape learns its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Curve, Declared, Evaluator, Metric, Task, Work, hookimpl
from compressit_plugins.subspace.options import IntrinsicDimensionConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class IntrinsicDimension(Evaluator[IntrinsicDimensionConfig]):
    """The smallest dimension of a random subspace in which a fresh net of the model's shape learns the task.

    Li et al., "Measuring the intrinsic dimension of objective landscapes" (2018). For each dimension a net is trained
    as `train.subspace` does. All begin with the same fresh weights: those that the model plugin draws, or, where the
    shapes have changed since or no plugin built the net, what each layer's own `reset_parameters` draws. Weights that
    are pruned in the model are not there. All other parameters learn, also those that were frozen. Two readings of
    "solved" are in use and differ: a score of `threshold`, and a `share` of what the measured model reaches itself.
    A dimension that was not reached is an empty cell. The result depends on the initialisation, and on scales of layers
    that change no answer of a ReLU net.
    """

    name = "eval.intrinsic_dimension"
    example: ClassVar[Mapping[str, Any]] = {
        "dimensions": [5, 20],
        "epochs": 2,
        "batch_size": 32,
        "threshold": 0.2,
    }

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """Both readings, and the score against the dimension."""
        watched, config = task.measures()[task.watch], self.config
        return {
            "intrinsic_dimension": Metric(
                "neither", "dimensions", f"smallest subspace with {task.watch} {config.threshold:g} or better"
            ),
            "intrinsic_dimension_relative": Metric(
                "neither",
                "dimensions",
                f"smallest subspace with {config.share:.0%} of the model's own {task.watch}",
            ),
            "subspace_score": Curve(
                "dimension of the subspace",
                f"{task.watch} ({watched.unit})",
                f"after training in a random subspace; {config.split} examples",
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a layer that cannot be given fresh weights, if no model plugin built the net, for
        a split that the data lack, and where no dimension fits into the net."""
        from compressit_plugins.subspace.dimensions import measured

        return measured(model, ctx, self.config)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """`threshold` where the task watches something that falls, as an error."""
        if task.measures()[task.watch].better == "higher":
            return {}
        return {
            "threshold": f"is a score to reach, and {task.name} watches {task.watch}, where lower is better"
        }

    def work(self, images: int) -> Work:
        """A training for each dimension."""
        config, used = self.config, min(images, self.config.images)
        return Work(len(config.dimensions) * config.total_steps(used), config.images_per_step(used))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [IntrinsicDimension]
