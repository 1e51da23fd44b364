"""What a net loses in int8: the task's scores before and after, on the same examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compressit.contract.tasks import Task
from compressit.datasets.splits import Split
from compressit.errors import CompressitError
from compressit.exporting.onnxnet import OnnxNet
from compressit.formatting import percent


@dataclass(frozen=True)
class Scores:
    """What the task watches, of the float net and of the int8 one on the same examples, and how far they agree."""

    metric: str
    unit: str
    before: float
    after: float
    drop: float  # how much worse the int8 net is; negative: it is better
    agreement: float

    def __str__(self) -> str:
        """`test accuracy 91.20 % in int8, 91.60 % in float32; they agree on 98.4 %`."""
        before, after = map(self._shown, (self.before, self.after))
        return (
            f"test {self.metric.replace('_', ' ')} {after} in int8, {before} in float32; "
            f"agreement {percent(self.agreement)}"
        )

    def shown_drop(self) -> str:
        """The loss with its unit."""
        return f"{100 * self.drop:.2f} points" if self.unit == "fraction" else f"{self.drop:.4g}"

    def _shown(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.unit == "fraction" else f"{value:.4g}"


def int8_scores(outputs: Tensor, small: OnnxNet, split: Split, task: Task[Any]) -> Scores:
    """Compares an int8 net with the outputs of the float one on a split. Raises CompressitError for a score that is
    not defined there."""
    metric, targets, found = task.measures()[task.watch], split.y.cpu(), small.outputs(split)
    try:
        before, after = (task.scores(of, targets)[task.watch] for of in (outputs, found))
    except KeyError:
        raise CompressitError(
            f"{task.watch} is not defined on these test examples", "measure on others"
        ) from None
    drop = before - after if metric.better == "higher" else after - before
    return Scores(task.watch, metric.unit, before, after, drop, task.agreement(found, outputs))
