"""The values of a plan: tasks with keys, the models they make, and which of them must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from compressit.recipe.model import Recipe


@dataclass(frozen=True)
class Task:
    """One unit of work, as JSON values: all a worker needs besides the store."""

    key: str
    kind: Literal["init", "rehearse", "stage", "evaluate"]
    label: str  # "real/seed0/blog-04"; behind it " eval.size" for an evaluation, " rehearsal" for one
    uses: str
    config: Mapping[str, Any]
    seed: int
    # reference -> key of another task; among them "previous" (stages) or "model" (evaluations)
    inputs: Mapping[str, str]
    # {"uses", "config", "id"}; "like", {"scale", "mean", "std"}, where a model from a file says how its inputs are made
    data: Mapping[str, Any]
    compute: Mapping[str, Any]  # {"device", "precision", "compile"}
    files: Mapping[str, str] = field(default_factory=dict[str, str])  # reference -> checkpoint file
    stage: str = "init"
    rung: int | None = None
    feed: Literal["previous", "original"] = "previous"
    each: str = ""
    # evaluations: {"stage", "rung", "uses", "config", "reference", "seed"}
    judged: Mapping[str, Any] | None = None
    exclusive: bool = False
    work: Mapping[str, float] | None = None  # kinds.Work as a dict, for the estimate
    lineage: Sequence[Mapping[str, Any]] = ()
    code: str = ""  # digest of all code that runs for it, as it was planned ("": unknown)
    roots: Sequence[str] = ()  # the modules that this code starts from

    def to_json(self) -> dict[str, Any]:
        """The task as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Task:
        """The inverse of `to_json`."""
        return Task(**values)


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
