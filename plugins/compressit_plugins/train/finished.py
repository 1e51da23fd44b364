"""Progress of a measurement that trains several nets, one after the other: those that are finished are not repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compressit import Progress

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Part(Progress):
    """The progress of the training called `name`: what `whole` saves, with the results of those `before`."""

    whole: Progress
    name: str
    before: Mapping[str, Points]

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Only a state of this training."""
        saved = self.whole.load()
        return saved if saved is not None and saved[1].get("part") == self.name else None

    def due(self) -> bool:
        return self.whole.due()

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.whole.save(tensors, {**facts, "part": self.name, "before": dict(self.before)})

    def refuse(self, why: str) -> None:
        self.whole.refuse(why)


def finished(progress: Progress) -> dict[str, list[tuple[float, float]]]:
    """The results of the trainings that were over when the state was saved, by name."""
    saved = progress.load()
    before: Mapping[str, Points] = saved[1].get("before", {}) if saved is not None else {}
    return {name: [(step, value) for step, value in points] for name, points in before.items()}
