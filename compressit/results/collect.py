"""Collects a plan's results from the store: one row per model, with its metrics, notes and curves."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from compressit.contract.job import Job
from compressit.contract.kinds import Evaluator
from compressit.contract.records import Metric, column
from compressit.contract.results import Kept, Results, Row
from compressit.host.declared import declared
from compressit.planning.points import Plan, Point
from compressit.recipe.model import Measure, ModelSpec, Recipe, Stage, Use, Variant
from compressit.store.objects import ARRAYS, Artifact, kept_file

LONGEST_NAME = 120  # bytes in a file name without its suffix; file systems allow 255 in total


def collect(
    plan: Plan,
    artifacts: Mapping[str, Artifact],
    failures: Sequence[str],
    command: str,
    folder: Path | None = None,
) -> Results:
    """The results that the store has for a plan: one row for each model made so far. `folder`: the run's."""
    missing = [p.path for p in plan.points if p.model not in artifacts]
    metrics, records = _declared(plan.recipe)
    parents, originals = _parents(plan), _originals(plan)
    rows = [
        _row(p, artifacts, metrics, parents[p.path], originals.get(p.path), plan.jobs[p.model].config)
        for p in plan.points
        if p.model in artifacts
    ]
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
        records=records,
        folder=folder,
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
    return f"checkpoints/{path_of(point)}.safetensors"


@dataclass(frozen=True)
class Copy:
    """A file of the store that the run folder has too."""

    source: Path
    kept: Kept


def arrays_of(point: Point, artifacts: Mapping[str, Artifact]) -> dict[str, Copy]:
    """The model's arrays, those of its stage and of its evaluators, by name in the results."""
    found: dict[str, Copy] = {}
    for called, by, made in _makers(point, artifacts):
        for name in made.arrays:
            kept = Kept(_arrays_file(point, by), made.manifest["files"][ARRAYS], name)
            found[column(called, name)] = Copy(made.folder / ARRAYS, kept)
    return found


def pictures_of(point: Point, artifacts: Mapping[str, Artifact]) -> dict[str, Copy]:
    """As `arrays_of`, for pictures."""
    found: dict[str, Copy] = {}
    for called, _, made in _makers(point, artifacts):
        for name in made.pictures:
            named, file = column(called, name), f"{name}.png"
            kept = Kept(_picture_file(point, named), made.manifest["files"][file], name)
            found[named] = Copy(made.folder / file, kept)
    return found


def files_of(point: Point, artifacts: Mapping[str, Artifact]) -> dict[str, Copy]:
    """As `arrays_of`, for the files that evaluators keep for other programs."""
    found: dict[str, Copy] = {}
    for called, _, made in _makers(point, artifacts):
        for name in made.kept:
            named, file = column(called, name), kept_file(name)
            kept = Kept(_kept_file(point, named), made.manifest["files"][file], name)
            found[named] = Copy(made.folder / file, kept)
    return found


def places(plan: Plan) -> Iterator[str]:
    """The files that a run of this plan may write for its models, by relative name."""
    records = _declared(plan.recipe)[1].items()
    pictures, files = (
        [name for name, facts in records if facts["kind"] == kind] for kind in ("picture", "file")
    )
    for point in plan.points:
        yield checkpoint_name(point)
        yield _arrays_file(point, point.uses)
        yield from (_arrays_file(point, name or plan.jobs[key].uses) for key, name in point.metrics.items())
        yield from (_picture_file(point, name) for name in pictures)
        yield from (_kept_file(point, name) for name in files)


def _arrays_file(point: Point, by: str) -> str:
    return f"arrays/{path_of(point)}/{short_name(by)}.safetensors"


def _picture_file(point: Point, name: str) -> str:
    return f"pictures/{path_of(point)}/{name}.png"


def _kept_file(point: Point, name: str) -> str:
    return f"exports/{path_of(point)}/{name}"


def _makers(point: Point, artifacts: Mapping[str, Artifact]) -> Iterator[tuple[str, str, Artifact]]:
    """What the store has of a model, its stage first, then its evaluations: the name that the recipe gives it by `as`,
    that name or the plugin's, and the result."""
    for key, called in {point.model: "", **point.metrics}.items():
        if key in artifacts:
            made = artifacts[key]
            yield called, called or made.manifest["job"]["uses"], made


def path_of(point: Point) -> str:
    """Its path as a file's: parts that are too long are shortened."""
    return "/".join(short_name(part) for part in point.path.split("/"))


def _declared(recipe: Recipe) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """What the recipe's evaluators declare: metrics, and everything else."""
    metrics: dict[str, dict[str, str]] = {}
    records: dict[str, dict[str, Any]] = {}
    used = [(measure, variant.posed) for variant in recipe.variants for measure in variant.evaluate]
    for measure, task in used:
        for name, what in declared(cast("Evaluator[Any]", measure.use.plugin), task).items():
            named = column(measure.name, name)
            if isinstance(what, Metric):
                metrics[named] = asdict(what)
            else:
                facts = json.loads(json.dumps(asdict(what)))  # as they will be read
                records[named] = {"kind": type(what).__name__.lower(), **facts}
    return metrics, records


def _parents(plan: Plan) -> dict[str, list[Point]]:
    """For each point, by path, the points of its lineage, from the first to itself."""
    own: dict[tuple[str, int, str], Point] = {}
    for point in plan.points:
        own.setdefault((point.variant, point.seed, _lasting_key(plan.jobs[point.model])), point)
    found: dict[str, list[Point]] = {}
    for point in plan.points:
        steps = [str(step.get("key")) for step in plan.jobs[point.model].lineage]
        way = [own.get((point.variant, point.seed, key)) for key in steps]
        found[point.path] = [other for other in way if other is not None and other is not point] + [point]
    return found


def _lasting_key(job: Job) -> str:
    """The key by which lineages name this model: of a file, as the run that made it called it."""
    measured = job.kind == "init" and job.stage != "init" and len(job.lineage) > 1
    return str(job.lineage[-2].get("key")) if measured else job.key


def _originals(plan: Plan) -> dict[str, str]:
    """The names of the dense parents, by the paths of the models that have one."""
    named = {(p.variant, p.seed, p.model): p.name for p in reversed(plan.points)}  # the first of equal ones
    return {
        point.path: named[point.variant, point.seed, point.original]
        for point in plan.points
        if point.original is not None
    }


def _row(
    point: Point,
    artifacts: Mapping[str, Artifact],
    declared: Mapping[str, Mapping[str, str]],
    way: Sequence[Point],
    dense: str | None,
    options: Mapping[str, Any],
) -> Row:
    artifact = artifacts[point.model]
    metrics: dict[str, float] = {}
    notes = artifact.notes
    curves: dict[str, list[tuple[float, float]]] = {}
    for called, _, made in _makers(point, artifacts):
        curves |= {column(called, name): points for name, points in made.curves.items()}
        if made is not artifact:
            metrics |= {column(called, name): value for name, value in made.metrics.items()}
            wrong = [column(called, name) for name in made.notes.get("not_finite", ())]
            if wrong:
                notes["not_finite"] = sorted({*notes.get("not_finite", ()), *wrong})
    for name, value in metrics.items():
        if declared.get(name, {}).get("unit") in ("count", "bytes") and value == int(value):
            metrics[name] = int(value)
    return Row(
        variant=point.variant, stage=point.stage, round=point.round, member=point.member, seed=point.seed,
        uses=point.uses, teacher=point.reference, metrics=metrics, notes=notes, curves=curves,
        seconds=artifact.seconds, checkpoint=checkpoint_name(point), dense=dense,
        parent=way[-2].name if len(way) > 1 else None, options=options, swept=point.swept,
        arrays={name: copy.kept for name, copy in arrays_of(point, artifacts).items()},
        pictures={name: copy.kept for name, copy in pictures_of(point, artifacts).items()},
        files={name: copy.kept for name, copy in files_of(point, artifacts).items()},
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
        **({"compare": recipe.compare.to_json()} if recipe.compare else {}),
        "report": [use.to_json() for use in recipe.report],
        "plugins": [{"path": str(p.path), "digest": p.digest} for p in recipe.plugins],
        "seeds": list(recipe.seeds),
        "variants": json.loads(json.dumps(variants, default=_told)),
    }


def _told(value: Any) -> Any:
    """Converts a part of a recipe for JSON: fields, plugins with their options, paths as strings."""
    if isinstance(value, Use | Measure):
        return value.to_json()
    if isinstance(value, Variant | ModelSpec | Stage):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(value)
