"""Plans dry runs: stages tried on fresh weights before anything is trained (`dry_run`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressit.checkpoint.starting import weights_digest
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Trainer
from compressit.host.plugins import Host
from compressit.planning.keys import key_of, torch_version


def dry_runs(
    stages: Sequence[Job], host: Host, machine: Callable[[bool], Mapping[str, Any]]
) -> dict[str, Job]:
    """A dry run for every stage that can have one, by the stage's key. `stages`: inputs before their users.
    `machine`: what keys contain in addition if a result depends on this machine.

    A stage is tried on a model with the shapes that it will get: those of the first model, changed by earlier dry
    runs. Trainers keep shapes. After a compressor without a dry run the shapes are unknown, so there are no more.
    """
    made: dict[str, Job] = {}
    shapes: dict[str, str | None] = {}  # a model's key -> key of a job whose model has the same shapes
    for stage in stages:
        if stage.kind != "stage":
            continue
        given = stage.inputs["previous"]
        shape = shapes.get(given, given)  # a model that no stage made is a first model
        plugin = host.find(stage.uses).plugin
        trains = issubclass(plugin, Trainer)
        shapes[stage.key] = shape if trains else None
        base = Trainer if trains else Compressor
        if shape is not None and issubclass(plugin, base) and plugin.dry_run is not base.dry_run:
            # a student may come from one of them
            files = {ref: weights_digest(Path(path)) for ref, path in stage.files.items()}
            key = key_of({
                "kind": "dry_run", **({"files": files} if files else {}),
                "uses": stage.uses, "config": stage.config, "code": stage.code, "given": shape,
                "seed": stage.seed, "stage": stage.stage, "round": stage.round, "feed": stage.feed,
                "data": stage.data["id"], "task": stage.task, "torch": torch_version(),
                **machine(stage.exclusive),  # a compressor runs alone because it measures times
            })  # fmt: skip
            label = f"{stage.label} dry run"
            made[stage.key] = replace(
                stage, key=key, kind="dry_run", label=label, inputs={"previous": shape}, work=None, lineage=(),
            )  # fmt: skip
            shapes[stage.key] = shape if trains else key
    return made
