"""A plan: its jobs, the models they make, and which jobs must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compressit.contract.job import Job
from compressit.recipe.model import Recipe
from compressit.recipe.names import point_name


@dataclass(frozen=True)
class Point:
    """One model of the run: a row of the results."""

    variant: str
    seed: int
    stage: str
    round: int | None
    member: str
    uses: str
    reference: str | None  # the model to compare with: its teacher, else "previous"; None after fresh weights
    model: str  # key of the job that makes the model
    metrics: Mapping[str, str]  # key of an evaluation -> its name (`as`) in the recipe, "" without one
    swept: Mapping[str, Any] = field(default_factory=dict[str, Any])  # what a `sweep` over variants varies
    original: str | None = None  # key of the job that makes the dense parent, if there is one

    @property
    def name(self) -> str:
        """`blog-04`, `prune@sparsity=0.5`, `train`."""
        return point_name(self.stage, self.member, self.round)

    @property
    def path(self) -> str:
        """`real/seed0/blog-04`."""
        return f"{self.variant}/seed{self.seed}/{self.name}"


@dataclass(frozen=True)
class Plan:
    """All jobs by key, inputs first, and the models they make."""

    recipe: Recipe
    jobs: Mapping[str, Job]
    points: Sequence[Point]
    dry_runs: Mapping[str, str] = field(default_factory=dict[str, str])  # stage's key -> its dry run's
    live: Sequence[
        str
    ] = ()  # what it uses that only this process has, in words; then workers are forked from it

    def pending(self, present: Mapping[str, bool]) -> list[Job]:
        """The jobs that must run, given which keys the store has: missing models and metrics, and the missing inputs
        of those. A model that is present needs neither its inputs nor its dry run."""
        wanted = {key for point in self.points for key in (point.model, *point.metrics)}
        needed: set[str] = set()
        waiting = [key for key in wanted if not present.get(key)]
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed.add(key)
                inputs = [*self.jobs[key].inputs.values(), self.dry_runs.get(key)]
                waiting += [k for k in inputs if k is not None and not present.get(k)]
        return [job for key, job in self.jobs.items() if key in needed]
