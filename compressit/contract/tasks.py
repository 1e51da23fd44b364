"""Tasks: what a data set poses, what a training minimises, and how a model's answers are judged.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from compressit.config import Config, dump, parse
from compressit.contract.plugin import Plugin
from compressit.contract.records import Metric
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.formatting import counted

if TYPE_CHECKING:
    from torch import Tensor

C = TypeVar("C", bound=Config)
Match = Literal["kl", "logits"]
Target = Literal["class", "vector", "map"]


class Task(Plugin[C]):
    """What a data set poses. `posed` says for how many outputs; it has one output where nothing was posed.

    A subclass needs `target`, `watch`, `measures`, `loss` and `scores`.
    """

    target: ClassVar[Target] = "vector"
    """Of an example: one of `outputs` classes, (N,) int64; `outputs` numbers, (N, outputs) float32; or the class of
    every pixel, (N, H, W) int64. A model gives (N, outputs) float, for maps (N, outputs, H, W)."""
    logits: ClassVar[bool] = False  # whether outputs are logits of probabilities, which a student can match
    watch: ClassVar[str] = ""  # which of `measures` tells a better model: early stopping follows it
    takes: ClassVar[frozenset[str]] = frozenset()  # tasks that a dataset may pose instead
    training: ClassVar[frozenset[str]] = frozenset()  # options of no influence on what is measured

    def __init__(self, config: C, posed: TaskSpec | None = None) -> None:
        super().__init__(config)
        self.posed = posed or TaskSpec(self.name, 1)

    @property
    def outputs(self) -> int:
        """How many numbers a model gives per example, or per pixel."""
        return self.posed.outputs

    @property
    def ignored(self) -> int | None:
        """The label of pixels that do not count; None if all do."""
        return None

    @classmethod
    def does(cls) -> frozenset[str]:
        """Its name, and those of the tasks that it derives from."""
        named = (vars(kind).get("name") for kind in cls.__mro__)
        return frozenset(name for name in named if isinstance(name, str))

    def measuring(self) -> Self:
        """The task without its `training` options: what models are measured by."""
        values = {name: value for name, value in dump(self.config).items() if name not in self.training}
        config = parse(type(self.config), values)
        return type(self)(config, replace(self.posed, options=dump(config)))

    def misfits(self) -> Mapping[str, str]:
        """The options that do not go with `posed`, each with the reason: `{"class_weights": "has 3 numbers, …"}`."""
        return {}

    # What a data set gives, and a model

    def targets(self, given: Tensor) -> Tensor:
        """Targets as this task takes them (`target`), cast where nothing is lost. `given`: (N, ...), numbers.

        Raises CompressitError for targets of another shape, type or range.
        """
        from compressit.contract.targets import cast_targets

        return cast_targets(given, self.target, self.outputs, self.ignored)

    def check(self, outputs: object, examples: int | None = None) -> None:
        """Raises CompressitError unless a model's outputs are what this task needs, for so many examples."""
        from compressit.contract.nets import check_logits, check_maps, check_values

        check = {"class": check_logits, "vector": check_values, "map": check_maps}[self.target]
        check(outputs, self.outputs, examples)

    # What a training minimises

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each example, (N,), of a model's outputs and `targets`."""
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def objective(self, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """What a training on examples with these targets minimises: a function of a batch's outputs and targets,
        a scalar. By default the mean of `loss`."""
        return lambda outputs, wanted: self.loss(outputs, wanted).mean()

    def distance(self, outputs: Tensor, taught: Tensor, match: Match, temperature: float) -> Tensor:
        """How far a student's outputs are from its teacher's, of the same shape: a scalar to minimise.

        `match`, `temperature`: of tasks whose outputs are `logits`. By default the mean squared error.
        """
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, taught)

    # How answers are judged

    def measures(self) -> Mapping[str, Metric]:
        """What `scores` may give, by name: `rmse`, not `test_rmse`."""
        raise NotImplementedError(f"{type(self).__name__}.measures")

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """The measures of a split's outputs, float32, and targets. One that is not defined is left out."""
        raise NotImplementedError(f"{type(self).__name__}.scores")

    def agreement(self, outputs: Tensor, taught: Tensor) -> float:
        """How far a model agrees with another one's outputs on the same inputs; 1: they say the same.

        By default R²: the share of the variance of the other's outputs that these explain.
        """
        from compressit.contract.measure import r2

        return r2(outputs, taught)

    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Which examples of a batch are answered right, (N,), to be shown while training; `targets` may be a teacher's
        outputs. None (the default) where that has no meaning."""
        return None


def answering(task: type[Task[Any]], posed: TaskSpec, data: str) -> None:
    """Raises CompressitError if the task is not one for data that pose `posed`."""
    if posed.uses in task.does() | task.takes:
        return
    kinds = {"class": "one class per example", "vector": "numbers", "map": "maps of classes"}
    raise CompressitError(
        f"{task.name} does not fit {data}, which poses {posed.uses} with {counted(posed.outputs, 'output')}",
        f"{task.name} takes {kinds[task.target]} as targets: use a task for {posed.uses}, or other data",
    )
