"""Which model is the original of another one: its dense parent, the first trained or given model on the way to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressit.checkpoint.starting import lineage_of
from compressit.contract.kinds import Trainer
from compressit.host.plugins import Host
from compressit.recipe.envelope import INIT
from compressit.recipe.model import ModelSpec, Stage


def of_first(model: ModelSpec, host: Host) -> dict[str, str | None]:
    """The original of each model that no stage makes, by name; None for fresh weights, and for a file that names none
    of the others as the trained model that it was made from.

    Raises CompressitError for a file that is not a checkpoint.
    """
    if not model.files:
        return {INIT: INIT if model.given else None}
    trainers = {found.plugin.name for found in host.registered("trainer")}
    return of_files(model.files, trainers)


def of_files(files: Sequence[tuple[str, Path]], trainers: Collection[str]) -> dict[str, str | None]:
    """The original of each file by name: the first of the files in its lineage, if nothing but trainings made that."""
    lineages = {name: lineage_of(path) for name, path in files}
    owners: dict[Any, str] = {}
    for name, steps in lineages.items():
        if steps:
            owners.setdefault(steps[-1].get("key"), name)
    found: dict[str, str | None] = {}
    for name, steps in lineages.items():
        first = next((owners[step.get("key")] for step in steps if step.get("key") in owners), None)
        trained = first is not None and all(step.get("uses") in trainers for step in lineages[first][1:])
        found[name] = first if trained else None
    return found


def has_original(name: str, stages: Mapping[str, Stage], first: Mapping[str, str | None]) -> bool:
    """Whether the models of this stage have one: none was compressed from fresh weights. `name` may be one of `first`,
    as `of_first` gives them."""
    oldest = None
    while name not in first:
        oldest, name = stages[name], stages[name].needs
    if first[name] is not None or oldest is None:
        return first[name] is not None
    return all(isinstance(use.plugin, Trainer) for _, use in oldest.members)
