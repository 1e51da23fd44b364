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
    for folder in file.parents:
        if folder.name == "checkpoints" and (folder.parent / "results.json").is_file():
            return _found(folder.parent, file.relative_to(folder.parent).as_posix())
    return None


def _found(run: Path, checkpoint: str) -> RecipeUsed | None:
    try:
        results = Results.read_json(run / "results.json")
        row = next((row for row in results.rows if row.checkpoint == checkpoint), None)
        if row is None:
            return None
        text, command = results.text, results.command
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return RecipeUsed(
        results.recipe, results.profile, results.description, row.variant, row.seed, text, command
    )
