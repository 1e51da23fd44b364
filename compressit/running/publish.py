"""Publishes a job's result to the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file as save_arrays
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.contract.compute import host_facts
from compressit.contract.context import StageContext
from compressit.contract.fit_told import POINTS, chosen
from compressit.contract.job import Job
from compressit.contract.measure import hidden_width
from compressit.datasets.splits import InputSpec
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.planning.keys import code_now
from compressit.running.shapes import emptied
from compressit.store.objects import ARRAYS, Artifact, Store, kept_file


@dataclass(frozen=True)
class Made:
    """A job's result: a model, metrics, or nothing for a dry run that returned no model."""

    model: nn.Module | None = None
    architecture: checkpoint.Architecture | None = None
    contract: InputSpec | None = None
    ctx: StageContext | None = None  # with what was recorded: notes, curves, arrays, pictures
    metrics: Mapping[str, float] | None = None  # including those that are not finite
    earlier: float = 0.0  # seconds spent in earlier sessions that were killed


def publish(store: Store, host: Host, job: Job, made: Made, seconds: float) -> Artifact:
    """Publishes the result. Raises CompressitError for a model that cannot be saved, and if the plugin's code changed
    since planning, since either version may have run."""
    if job.code and code_now(*job.roots) != job.code:
        raise CompressitError(
            f"the code of {job.uses} changed since this run was planned", "start the run again"
        )

    def write(folder: Path) -> None:
        if made.model is not None:
            _write_model(made.model, folder / "model.safetensors", job, made, host)
        if made.ctx is not None and made.ctx.arrays:
            arrays = {name: np.ascontiguousarray(array) for name, array in made.ctx.arrays.items()}
            save_arrays(arrays, folder / ARRAYS)
        for name, png in (made.ctx.pictures if made.ctx is not None else {}).items():
            (folder / f"{name}.png").write_bytes(png)
        for name, content in (made.ctx.files if made.ctx is not None else {}).items():
            (folder / kept_file(name)).write_bytes(content)

    told = {"job": job.to_json(), "seconds": seconds, "host": host_facts()}
    return store.publish(job.key, {**told, **_facts(made)}, write)


def _facts(made: Made) -> dict[str, Any]:
    """The manifest's facts."""
    facts = _measured(made.metrics, made.ctx) if made.metrics is not None else _made(made)
    if made.ctx is not None:
        arrays = {name: [array.dtype.name, *array.shape] for name, array in made.ctx.arrays.items()}
        facts |= {"arrays": arrays, "pictures": sorted(made.ctx.pictures)}
        facts |= {"kept": sorted(made.ctx.files)}
    return facts


def _measured(metrics: Mapping[str, float], ctx: StageContext | None) -> dict[str, Any]:
    """Metrics that are not finite are omitted, and listed in a note, as are curves with gaps."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    curves = {name: evenly(points) for name, points in ctx.curves.items()} if ctx is not None else {}
    gaps = [name for name, points in curves.items() if not all(math.isfinite(value) for _, value in points)]
    wrong = sorted({*(metrics.keys() - finite.keys()), *gaps})
    return {"metrics": finite, "notes": {"not_finite": wrong}, "curves": curves}


def _made(made: Made) -> dict[str, Any]:
    if made.model is None:
        return {"notes": {}}
    notes: dict[str, Any] = {"width": hidden_width(made.model)}
    curves: dict[str, list[tuple[float, float]]] = {}
    if (ctx := made.ctx) is not None:
        notes |= ctx.notes
        if ctx.data.doubts:
            notes["data_doubts"] = list(ctx.data.doubts)
        curves = {name: _thinned_points(points) for name, points in ctx.curves.items()}
        if "loss" in ctx.arrays:
            curves["loss"] = _thinned_points(thinned(ctx.arrays["loss"]))
    return {"notes": notes, "curves": curves}


def _write_model(model: nn.Module, file: Path, job: Job, made: Made, host: Host) -> None:
    task = TaskSpec.from_json(job.task)
    try:
        checkpoint.save(model, file, made.architecture, made.contract, host, job.lineage, task=task)
    except CompressitError as error:  # remove the name of the temporary file
        raise CompressitError(error.message.removeprefix(f"{file}: "), error.hint) from error
    if job.kind == "dry_run":
        with suppress(CompressitError):  # the model cannot be saved without its weights: keep the full one
            checkpoint.save(
                emptied(model), file, made.architecture, made.contract, host, job.lineage, compact=True,
                task=task,
            )  # fmt: skip


def thinned(values: np.ndarray) -> list[tuple[float, float]]:
    """Points (step, mean since the point before) of a value per step, at the steps `chosen` for curves."""
    ends = chosen(len(values))
    bins = np.split(values.astype(np.float64), ends[:-1]) if ends else []
    return [(float(end), float(part.mean())) for end, part in zip(ends, bins, strict=True)]


def _thinned_points(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return evenly([(step, value) for step, value in points if math.isfinite(value)])


def evenly(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 200 of these points, evenly chosen, with the first and the last."""
    if len(points) <= POINTS:
        return list(points)
    return [points[i] for i in np.linspace(0, len(points) - 1, POINTS).round().astype(int)]
