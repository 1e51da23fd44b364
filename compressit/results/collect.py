"""Collects a plan's results from the store: one row per model, with its metrics, notes and curves."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, cast

from compressit.contract.kinds import Evaluator
from compressit.contract.results import Results, Row
from compressit.host.plugins import Host
from compressit.planning.points import Plan, Point
from compressit.recipe.model import ModelSpec, Recipe, Stage, Use, Variant
from compressit.store.objects import Artifact

LONGEST_NAME = 120  # bytes in a file name without its suffix; file systems allow 255 in total


def collect(
    plan: Plan, artifacts: Mapping[str, Artifact], failures: Sequence[str], host: Host, command: str
) -> Results:
    """The results that the store has for a plan: one row for each model made so far."""
    missing = [p.path for p in plan.points if p.model not in artifacts]
    used = [(cast("Evaluator[Any]", use.plugin), v.posed) for v in plan.recipe.variants for use in v.evaluate]
    metrics = {
        name: asdict(metric) for plugin, task in used for name, metric in plugin.measures(task).items()
    }
    dense = _dense_parents(plan, host)
    rows = [_row(p, artifacts, metrics, dense.get(p.path)) for p in plan.points if p.model in artifacts]
    return Results(
        recipe=plan.recipe.name,
        profile=plan.recipe.profile,
        rows=rows,
        metrics=metrics,
        about=_about(plan, artifacts, command),
        missing=missing,
        failures=list(failures),
        description=plan.recipe.description,
        config=_config(plan),
    )


def short_name(name: str) -> str:
    """The name itself, or, if it may be too long for a file system, its beginning and a digest."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: LONGEST_NAME - 9].decode(errors="ignore") + "-" + digest


def checkpoint_name(point: Point) -> str:
    """The path of a model's checkpoint within the run folder."""
    path = "/".join(short_name(part) for part in point.path.split("/"))
    return f"checkpoints/{path}.safetensors"


def _dense_parents(plan: Plan, host: Host) -> dict[str, str]:
    """For each point, by path, the name of its dense ancestor: the first model of its lineage. Points compressed from
    fresh weights have none, since those have no row."""
    own = {(point.variant, point.seed, point.model): point for point in plan.points}
    found: dict[str, str] = {}
    for point in plan.points:
        way = [own.get((point.variant, point.seed, step["key"])) for step in plan.jobs[point.model].lineage]
        first = next(parent for parent in way if parent is not None)
        if first.stage == "init" or host.find(first.uses).kind == "trainer":
            found[point.path] = first.name
    return found


def _row(
    point: Point,
    artifacts: Mapping[str, Artifact],
    declared: Mapping[str, Mapping[str, str]],
    dense: str | None,
) -> Row:
    artifact = artifacts[point.model]
    metrics: dict[str, float] = {}
    notes = artifact.notes
    for key in point.metrics.values():
        if key in artifacts:
            metrics |= artifacts[key].metrics
            if wrong := artifacts[key].notes.get("not_finite"):
                notes["not_finite"] = sorted({*notes.get("not_finite", ()), *wrong})
    for name, value in metrics.items():
        if declared.get(name, {}).get("unit") in ("count", "bytes") and value == int(value):
            metrics[name] = int(value)
    return Row(
        variant=point.variant, stage=point.stage, round=point.round, member=point.member, seed=point.seed,
        uses=point.uses, teacher=point.reference, metrics=metrics, notes=notes, curves=artifact.curves,
        seconds=artifact.seconds, checkpoint=checkpoint_name(point),
        dense=dense,
    )  # fmt: skip


def _about(plan: Plan, artifacts: Mapping[str, Artifact], command: str) -> dict[str, Any]:
    own = [artifacts[key] for key in plan.jobs if key in artifacts]
    hosts = {json.dumps(a.manifest["host"], sort_keys=True) for a in own}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "job_seconds": round(sum(a.seconds for a in own), 1),
        "hosts": [json.loads(host) for host in sorted(hosts)],
        "classes": plan.recipe.variants[0].offer.classes,
        "compute": plan.recipe.compute.model_dump(mode="json"),
        "models": f"{sum(p.model in artifacts for p in plan.points)} of {len(plan.points)}",
    }


def written(recipe: Recipe) -> dict[str, Any]:
    """The recipe as its author wrote it, and the settings from the command line."""
    file = recipe.path.name if recipe.path else f"{recipe.name}.yaml"
    return {"file": file, "text": recipe.text, "settings": list(recipe.settings)}


def _config(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    variants = {variant.name: variant for variant in recipe.variants}
    return {
        "recipe": written(recipe),
        "report": [use.to_json() for use in recipe.report],
        "plugins": [{"path": str(p.path), "digest": p.digest} for p in recipe.plugins],
        "seeds": list(recipe.seeds),
        "variants": json.loads(json.dumps(variants, default=_told)),
    }


def _told(value: Any) -> Any:
    """Converts a part of a recipe for JSON: fields, plugins with their options, paths as strings."""
    if isinstance(value, Use):
        return value.to_json()
    if isinstance(value, Variant | ModelSpec | Stage):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(value)
