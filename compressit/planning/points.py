"""The values of a plan: its tasks, the models they make, and which of them must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compressit.contract.tasks import Task
from compressit.recipe.model import Recipe


@dataclass(frozen=True)
class Point:
    """One model of the run: a row of the results."""

    variant: str
    seed: int
    stage: str
    rung: int | None
    each: str
    uses: str
    reference: str | None  # what it is compared with: its teacher, else "previous"; None after fresh weights
    model: str  # key of the task that makes it
    metrics: Mapping[str, str]  # evaluator -> key of its task

    @property
    def name(self) -> str:
        """`blog-04`, `prune@amount=0.5`, `train`."""
        return point_name(self.stage, self.each, self.rung)

    @property
    def path(self) -> str:
        """`real/seed0/blog-04`."""
        return f"{self.variant}/seed{self.seed}/{self.name}"


@dataclass(frozen=True)
class Plan:
    """All tasks by key, inputs before what needs them, and the models they make."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    points: Sequence[Point]
    rehearsals: Mapping[str, str] = field(default_factory=dict[str, str])  # stage's key -> its rehearsal's
    doubts: Sequence[str] = ()  # what its results will have to be read with, as far as it is known now

    def pending(self, present: Mapping[str, bool]) -> list[Task]:
        """The tasks that must run, given which keys the store has: what is wanted and missing, and what that
        needs. A missing input of something that is there stays missing, and a stage that is there needs no
        rehearsal."""
        wanted = {key for point in self.points for key in (point.model, *point.metrics.values())}
        needed: set[str] = set()
        waiting = [key for key in wanted if not present.get(key)]
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed.add(key)
                inputs = [*self.tasks[key].inputs.values(), self.rehearsals.get(key)]
                waiting += [k for k in inputs if k is not None and not present.get(k)]
        return [task for key, task in self.tasks.items() if key in needed]


def point_name(stage: str, each: str, rung: int | None) -> str:
    """A model's name within its variant and seed."""
    return stage + (f"@{each}" if each else "") + (f"-{rung:02d}" if rung is not None else "")
