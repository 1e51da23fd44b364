"""What a search has tried, and what follows from it: the front, the winner. Values, without a way to make them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compressit.contract.results import Number

_ROUNDING = 1e-9  # 0.95 - 0.945 is a little more than 0.005


@dataclass(frozen=True)
class Goal:
    """What is made small, and what must not get worse by more than `max_drop`."""

    minimize: str  # a column whose lower values are better: "macs"
    metric: str  # a column of the validation split: "validation_accuracy"
    max_drop: float  # in the metric's own unit, ≥ 0
    better: str = "higher"  # which values of the metric are better: "higher", "lower"
    units: tuple[str, str] = ("count", "fraction")  # of both columns

    def drop(self, original: float, own: float) -> float:
        """How much worse than the original; below 0: better."""
        return original - own if self.better == "higher" else own - original


@dataclass(frozen=True)
class Trial:
    """One model that was tried: means over the recipe's seeds."""

    number: int  # from 0
    strategy: str
    values: Mapping[str, Any]  # what was chosen, by the parameter's name
    cost: Number = math.nan  # of the goal's `minimize`
    score: Number = math.nan  # of its `metric`
    drop: Number = math.nan  # from the original that the recipe makes as it is written
    failed: str = ""  # why there is no model, or no number

    def meets(self, goal: Goal) -> bool:
        """Whether it lost no more than is allowed."""
        return not self.failed and self.drop <= goal.max_drop + _ROUNDING

    @property
    def told(self) -> str:
        """`half: recover.epochs=5, half.keep=0.43`."""
        values = ", ".join(f"{_short(name)}={value}" for name, value in self.values.items())
        return f"{self.strategy}: {values}" if values else self.strategy


@dataclass(frozen=True)
class Original:
    """What a strategy started from, as the recipe is written: means over the seeds."""

    cost: float
    score: float


@dataclass(frozen=True)
class Tried:
    """All trials so far, and what they are compared with."""

    trials: tuple[Trial, ...] = ()
    originals: Mapping[str, Original] = field(default_factory=dict[str, Original])  # by strategy
    # the names of the layers by strategy and option, of ratios per layer
    layers: Mapping[str, Mapping[str, Sequence[str]]] = field(
        default_factory=dict[str, Mapping[str, Sequence[str]]]
    )

    def front(self) -> tuple[Trial, ...]:
        """The trials than which no other costs less and lost less, the cheapest first. Of equals the first."""
        measured = [trial for trial in self.trials if not trial.failed]
        found: list[Trial] = []
        for trial in sorted(measured, key=lambda trial: (trial.cost, trial.drop, trial.number)):
            if not found or trial.drop < found[-1].drop:
                found.append(trial)
        return tuple(found)

    def winner(self, goal: Goal) -> Trial | None:
        """The cheapest trial that lost no more than is allowed; None if there is none."""
        return next((trial for trial in self.front() if trial.meets(goal)), None)

    def nearest(self) -> Trial | None:
        """The trial that lost least; None if none could be measured."""
        return min(self.front(), key=lambda trial: (trial.drop, trial.cost), default=None)


def _short(name: str) -> str:
    return name.removeprefix("stages.").replace(".with.", ".")
