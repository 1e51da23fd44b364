"""The recipe that a checkpoint in a run folder was made by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compressit.contract.results import Results


@dataclass(frozen=True)
class RecipeUsed:
    """A run's recipe, as its results have it, and the model's place in it."""

    name: str
    profile: str | None
    description: str
    variant: str
    seed: int
    text: str  # as it was written; "" for one made in Python
    command: str  # the command line that runs it


def recipe_of(checkpoint: Path) -> RecipeUsed | None:
    """The recipe behind a checkpoint under `RUN/checkpoints/`; None for a file elsewhere, or none of a run."""
    file = checkpoint.resolve()
    run = next((f.parent for f in file.parents if f.name == "checkpoints"), None)
    if run is None:
        return None
    try:
        r = Results.read_json(run / "results.json")
        row = next(row for row in r.rows if row.checkpoint == file.relative_to(run).as_posix())
        return RecipeUsed(r.recipe, r.profile, r.description, row.variant, row.seed, r.text, r.command)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, StopIteration):
        return None
