"""The run folder: what people take away. Everything in it is made from the store, and can be made again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from compressit.checkpoint.header import copy_with, read_header
from compressit.errors import CompressitError
from compressit.keys import code_digest, key_of
from compressit.kinds import Dataset
from compressit.plugins import Host
from compressit.process import environment, python
from compressit.recipe.model import Recipe
from compressit.results import Results, Row
from compressit.store import Artifact
from compressit.tasks import Plan, Point

REFRESH_EVERY = 30.0  # seconds at least between two reports of a running run
REFRESH_SHARE = 50  # and at least this many times what drawing the last one took
LONGEST_NAME = 120  # bytes in a file's name, before its suffix; file systems take 255 with it


class RunFolder:
    """Collects a plan's results: checkpoints, results.json, results.csv, figures, report.html."""

    def __init__(self, folder: Path, plan: Plan, host: Host, command: str) -> None:
        """Raises CompressitError for a folder that holds the results of a recipe of another name."""
        _require_own(folder, plan.recipe.name)
        self.folder = folder
        self._plan = plan
        self._host = host
        self._command = command
        self._drawing: subprocess.Popen[bytes] | None = None
        self._drawn_at = time.monotonic()
        self._drawing_since = 0.0
        self._pause = REFRESH_EVERY

    def finished(self) -> Results | None:
        """The folder's results if it holds exactly this finished plan, with no file missing."""
        try:
            facts = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
            if facts["content"] != self._content():
                return None
            if not all((self.folder / name).is_file() for name in facts["files"]):
                return None
            return Results.read_json(self.folder / "results.json")
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def refresh(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> None:
        """Starts drawing the report in a process of its own, when it is time and none is being drawn."""
        now = time.monotonic()
        if self._drawing is not None:
            if self._drawing.poll() is None:
                return
            self._pause = max(REFRESH_EVERY, REFRESH_SHARE * (now - self._drawing_since))
            self._drawing, self._drawn_at = None, now
        if now - self._drawn_at < self._pause:
            return
        self.write_results(artifacts, failures)
        self._drawing_since = now
        self._drawing = self._draw(subprocess.DEVNULL)

    def finish(self, artifacts: Mapping[str, Artifact], failures: Sequence[str], complete: bool) -> list[str]:
        """Writes everything; returns what went wrong with the report (one line each).

        Of files that an earlier run listed as its own, a complete run removes those it did not make itself.
        """
        if self._drawing is not None:
            self._drawing.kill()
            self._drawing.wait()
        earlier = self._listed()
        results = self.write_results(artifacts, failures)
        figures = self._figures()
        drawing = self._draw(subprocess.PIPE)
        _, complaint = drawing.communicate()
        drawn = drawing.returncode == 0
        made = {str(row.checkpoint) for row in results.rows} | {"results.json", "results.csv", "report.html"}
        made |= dict(self._figures().items() - figures.items()).keys()
        if complete and drawn:
            self._remove(earlier - made)
        facts = {
            "content": self._content() if complete and drawn else None,
            "command": self._command,
            "files": sorted(name for name in made | earlier if (self.folder / name).is_file()),
        }
        (self.folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        said = complaint.decode(errors="replace").strip().splitlines()
        if not drawn:
            return [f"report: {line}" for line in said[-3:]]
        reports = tuple(f"{use.uses}: " for use in self._plan.recipe.report)
        return [line for line in said if line.startswith(reports)]  # other lines are some library's warnings

    def write_results(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> Results:
        """Exports the checkpoints and writes results.json and results.csv; returns the results."""
        self.folder.mkdir(parents=True, exist_ok=True)
        results = collect(self._plan, artifacts, failures, self._host, self._command)
        by_path = {point.path: point for point in self._plan.points}
        for row in results.rows:
            point = by_path[f"{row.variant}/seed{row.seed}/{row.name}"]
            self._export(point, artifacts[point.model], row)
        results.write_json(self.folder / "results.json")
        results.write_csv(self.folder / "results.csv")
        return results

    def _export(self, point: Point, artifact: Artifact, row: Row) -> None:
        target = self.folder / str(row.checkpoint)
        metrics = dict(row.metrics)
        if target.exists():
            try:
                manifest = read_header(target).manifest
                last = manifest.lineage[-1] if manifest.lineage else {}
                if last.get("key") == point.model and dict(manifest.metrics) == metrics:
                    return
            except CompressitError:
                pass  # a damaged copy: written again
        target.parent.mkdir(parents=True, exist_ok=True)
        lineage = self._plan.tasks[point.model].lineage  # by this run's names
        copy_with(artifact.model_file, target, lineage=lineage, metrics=metrics)

    def _draw(self, stderr: int) -> subprocess.Popen[bytes]:
        # its plugin files were trusted for the run, as they were then
        trusted = [f"--trusted={plugin.digest}" for plugin in self._plan.recipe.plugins]
        return subprocess.Popen(
            python("compressit", "report", *trusted, f"--ends-with={os.getpid()}", "--", str(self.folder)),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the run
        )

    def _figures(self) -> dict[str, tuple[int, int]]:
        """The figures there are, by path relative to the folder; the numbers change when one is drawn."""
        found = {path: path.stat() for path in self.folder.glob("figures/*") if path.is_file()}
        return {f"figures/{path.name}": (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}

    def _listed(self) -> set[str]:
        """The checkpoints and figures that the run before this one listed as its own."""
        try:
            names = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["files"]
            paths = [PurePosixPath(name) for name in names]
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        return {
            str(path)
            for path in paths
            if path.parts[:1] in (("checkpoints",), ("figures",)) and ".." not in path.parts
        }

    def _remove(self, names: Iterable[str]) -> None:
        """These files, and the folders they leave empty."""
        for name in names:
            file = self.folder / name
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                for part in PurePosixPath(name).parents[:-1]:
                    (self.folder / part).rmdir()

    def _content(self) -> str:
        reports = [
            (asdict(use), code_digest(self._host.find(use.uses).plugin.__module__))
            for use in self._plan.recipe.report
        ]
        recipe = self._plan.recipe
        facts: dict[str, Any] = {
            "recipe": [recipe.name, recipe.profile, recipe.description, _written(recipe)],
            "points": [asdict(point) for point in self._plan.points],
            "reports": reports,
            "layout": code_digest("compressit.report", "compressit.results"),
        }
        return key_of(facts)


def collect(
    plan: Plan, artifacts: Mapping[str, Artifact], failures: Sequence[str], host: Host, command: str
) -> Results:
    """The results of whatever the store has of a plan. A row appears once its model is there."""
    missing = [p.path for p in plan.points if p.model not in artifacts]
    used = {use.uses for variant in plan.recipe.variants for use in variant.evaluate}
    metrics = {
        name: asdict(metric)
        for plugin in (host.find(uses, "evaluator").plugin for uses in sorted(used))
        for name, metric in getattr(plugin, "metrics", {}).items()
    }
    dense = _dense_parents(plan, host)
    rows = [_row(p, artifacts, metrics, dense.get(p.path)) for p in plan.points if p.model in artifacts]
    return Results(
        recipe=plan.recipe.name,
        profile=plan.recipe.profile,
        rows=rows,
        metrics=metrics,
        about=_about(plan, artifacts, host, command),
        missing=missing,
        failures=list(failures),
        description=plan.recipe.description,
        config=_config(plan),
    )


def _require_own(folder: Path, recipe: str) -> None:
    try:
        held = json.loads((folder / "results.json").read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing, or nothing that a run could go on from
    if held != recipe:
        raise CompressitError(
            f"{folder} holds the results of another recipe, '{held}'; this one is '{recipe}'",
            "give another folder with --out, or remove that one",
        )


def short_name(name: str) -> str:
    """The name itself, or where a file system might not take it, its beginning and a digest of it."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: LONGEST_NAME - 9].decode(errors="ignore") + "-" + digest


def _dense_parents(plan: Plan, host: Host) -> dict[str, str]:
    """Of each point, by path, the name of the first model on its way; none where that was compressed from fresh
    weights, of which there is no row."""
    own = {(point.variant, point.seed, point.model): point for point in plan.points}
    found: dict[str, str] = {}
    for point in plan.points:
        way = [own.get((point.variant, point.seed, step["key"])) for step in plan.tasks[point.model].lineage]
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
    path = "/".join(short_name(part) for part in point.path.split("/"))
    for name, value in metrics.items():
        if declared.get(name, {}).get("unit") in ("count", "bytes") and value == int(value):
            metrics[name] = int(value)
    return Row(
        variant=point.variant, stage=point.stage, rung=point.rung, each=point.each, seed=point.seed,
        uses=point.uses, teacher=point.reference, metrics=metrics, notes=notes, curves=artifact.curves,
        seconds=artifact.seconds, checkpoint=f"checkpoints/{path}.safetensors",
        dense=dense,
    )  # fmt: skip


def _about(plan: Plan, artifacts: Mapping[str, Artifact], host: Host, command: str) -> dict[str, Any]:
    data = plan.recipe.variants[0].data
    own = [artifacts[key] for key in plan.tasks if key in artifacts]
    hosts = {json.dumps(a.manifest["host"], sort_keys=True) for a in own}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "task_seconds": round(sum(a.seconds for a in own), 1),
        "hosts": [json.loads(host) for host in sorted(hosts)],
        "classes": host.create(Dataset, data.uses, data.config).classes,
        "compute": plan.recipe.compute.model_dump(mode="json"),
        "models": f"{sum(p.model in artifacts for p in plan.points)} of {len(plan.points)}",
    }


def _written(recipe: Recipe) -> dict[str, Any]:
    """The recipe as its author wrote it, and what was given with it on the command line."""
    file = recipe.path.name if recipe.path else f"{recipe.name}.yaml"
    return {"file": file, "text": recipe.text, "settings": list(recipe.settings)}


def _config(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    variants = {variant.name: asdict(variant) for variant in recipe.variants}
    return {
        "recipe": _written(recipe),
        "report": [asdict(use) for use in recipe.report],
        "plugins": [{"path": str(p.path), "digest": p.digest} for p in recipe.plugins],
        "seeds": list(recipe.seeds),
        "variants": json.loads(json.dumps(variants, default=str)),  # paths as text
    }
