"""A job: one unit of work of a plan, as hooks and workers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Job:
    """One unit of work, as JSON values: everything that a worker needs besides the store."""

    key: str
    kind: Literal["init", "dry_run", "stage", "evaluate"]
    label: str  # "real/seed0/blog-04"; evaluations append " eval.size", dry runs " dry run"
    uses: str
    config: Mapping[str, Any]
    seed: int
    # reference -> key of another job; among them "previous" (stages) or "model" (evaluations)
    inputs: Mapping[str, str]
    # {"uses", "config", "id"}; also "like": {"scale", "mean", "std"} if a model file says how to scale inputs
    data: Mapping[str, Any]
    compute: Mapping[str, Any]  # {"device", "precision", "compile"}
    # {"uses", "outputs", "names", "options"} of the TaskSpec; evaluations get it without training options
    task: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, str] = field(default_factory=dict[str, str])  # reference -> checkpoint file
    fresh: Sequence[str] = ()  # patterns of the tensors that files["weights"] does not fill
    init: Mapping[str, Any] = field(
        default_factory=dict[str, Any]
    )  # options of fresh weights, if any are set
    stage: str = "init"
    round: int | None = None
    feed: Literal["previous", "original"] = "previous"
    member: str = ""  # "sparsity=0.5" of a swept stage
    # evaluations: {"stage", "round", "uses", "config", "reference", "seed"}
    judged: Mapping[str, Any] | None = None
    exclusive: bool = False
    work: Mapping[str, float] | None = None  # kinds.Work as a dict, for the estimate
    lineage: Sequence[Mapping[str, Any]] = ()
    code: str = ""  # digest, when planned, of all code that the job runs ("": unknown)
    roots: Sequence[str] = ()  # the modules from which that code is found

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Job:
        """The inverse of `to_json`."""
        return Job(**values)
