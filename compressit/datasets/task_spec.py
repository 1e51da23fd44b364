"""What a dataset poses: the value that datasets, plans, checkpoints and `compressit.data` name a task by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CLASSIFICATION = "task.classification"
"""What a dataset that declares only `classes` poses."""


@dataclass(frozen=True)
class TaskSpec:
    """A task as a dataset poses it. `TaskSpec("task.regression", 2, ("width", "height"))`."""

    uses: str  # the task plugin's name
    outputs: int  # what a model must give per example, or per pixel: logits of classes or labels, values
    names: tuple[str, ...] = ()  # of the outputs, in order; by default "0", "1" …
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of the task plugin, as JSON values

    def __post_init__(self) -> None:
        if not self.names:  # those of the outputs, then
            object.__setattr__(self, "names", tuple(map(str, range(self.outputs))))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "names": list(self.names)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> TaskSpec:
        """The inverse of `to_json`."""
        return TaskSpec(values["uses"], values["outputs"], tuple(values["names"]), values["options"])


def usual_task(whole: bool, shape: Sequence[int]) -> str:
    """The task that targets of this shape (N, ...) pose unless somebody says otherwise; `whole`: whole numbers."""
    if not whole or len(shape) > 3:
        return "task.regression"
    return {1: CLASSIFICATION, 2: "task.multilabel", 3: "task.segmentation"}.get(len(shape), CLASSIFICATION)
