"""The run folder: what people take away. Everything in it is made from the store, and can be made again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressit.checkpoint.header import copy_with, read_header
from compressit.errors import CompressitError
from compressit.keys import code_digest, key_of
from compressit.plan import Plan, Point
from compressit.plugins import Host
from compressit.results import Results, Row
from compressit.store import Artifact

REFRESH_EVERY = 30.0  # seconds at least between two reports of a running run
REFRESH_SHARE = 50  # and at least this many times what drawing the last one took


class RunFolder:
    """Collects a plan's results: checkpoints, results.json, results.csv, figures, report.html."""

    def __init__(self, folder: Path, plan: Plan, host: Host, command: str) -> None:
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
        """Writes everything; returns what went wrong with the report (one line each)."""
        if self._drawing is not None:
            self._drawing.kill()
            self._drawing.wait()
        self.write_results(artifacts, failures)
        drawing = self._draw(subprocess.PIPE)
        _, complaint = drawing.communicate()
        drawn = drawing.returncode == 0
        facts = {
            "content": self._content() if complete and drawn else None,
            "command": self._command,
            "files": self._files(),
        }
        (self.folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return [] if drawn else complaint.decode(errors="replace").strip().splitlines()[-3:]

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
        command = [sys.executable, "-m", "compressit", "report", str(self.folder), *trusted]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for the run
        )

    def _files(self) -> list[str]:
        """What the report and the exports consist of, relative to the folder."""
        made = [
            *self.folder.glob("checkpoints/**/*.safetensors"),
            *self.folder.glob("figures/*"),
            *(self.folder / name for name in ("results.json", "results.csv", "report.html")),
        ]
        return sorted(path.relative_to(self.folder).as_posix() for path in made if path.is_file())

    def _content(self) -> str:
        reports = [
            (asdict(use), code_digest(self._host.find(use.uses).plugin.__module__))
            for use in self._plan.recipe.report
        ]
        recipe = self._plan.recipe
        facts: dict[str, Any] = {
            "recipe": [recipe.name, recipe.profile, recipe.description],
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
    rows = [_row(p, artifacts, metrics) for p in plan.points if p.model in artifacts]
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


def _row(point: Point, artifacts: Mapping[str, Artifact], declared: Mapping[str, Mapping[str, str]]) -> Row:
    artifact = artifacts[point.model]
    metrics: dict[str, float] = {}
    for key in point.metrics.values():
        if key in artifacts:
            metrics |= artifacts[key].metrics
    for name, value in metrics.items():
        if declared.get(name, {}).get("unit") in ("count", "bytes") and value == int(value):
            metrics[name] = int(value)
    return Row(
        variant=point.variant, stage=point.stage, rung=point.rung, each=point.each, seed=point.seed,
        uses=point.uses, teacher=point.reference, metrics=metrics, notes=artifact.notes, curves=artifact.curves,
        seconds=artifact.seconds, checkpoint=f"checkpoints/{point.path}.safetensors",
    )  # fmt: skip


def _about(plan: Plan, artifacts: Mapping[str, Artifact], command: str) -> dict[str, Any]:
    own = [artifacts[key] for key in plan.tasks if key in artifacts]
    hosts = {json.dumps(a.manifest["host"], sort_keys=True) for a in own}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "task_seconds": round(sum(a.seconds for a in own), 1),
        "hosts": [json.loads(host) for host in sorted(hosts)],
        "compute": plan.recipe.compute.model_dump(mode="json"),
        "models": f"{sum(p.model in artifacts for p in plan.points)} of {len(plan.points)}",
    }


def _config(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    variants = {variant.name: asdict(variant) for variant in recipe.variants}
    return {
        "report": [asdict(use) for use in recipe.report],
        "plugins": [{"path": str(p.path), "digest": p.digest} for p in recipe.plugins],
        "seeds": list(recipe.seeds),
        "variants": json.loads(json.dumps(variants, default=str)),  # paths as text
    }
