"""Checks of whole runs: in worker processes the plugin does what it does here, and no file holds a pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from compressit.api import run
from compressit.contract.job import Job
from compressit.errors import StageFailed
from compressit.paths import default_cache
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import load_recipe
from compressit.running.estimate import History
from compressit.running.job import JobRunner
from compressit.store.objects import Artifact, Store
from compressit.testing.check import Check, ConformanceError, check
from compressit.testing.pickles import pickles
from compressit.testing.stand import DATA, TRAINING
from compressit.testing.subject import Subject
from compressit.testing.watch import differing, quiet_place

JOBS = 2
_LIMIT = 96  # training images of a data set under test


def run_checks(*needs: Check) -> tuple[Check, Check]:
    """`runs_under_jobs` and `no_pickle`, which say something only where `needs` pass."""

    @check(*needs)
    def runs_under_jobs(subject: Subject) -> None:
        """Two variants run in two worker processes, with the same results as here."""
        plan = _plan(subject)
        here = _here(subject, plan)
        there = _there(subject, plan, here)
        for key, job in plan.jobs.items():
            one, other = here.find(key), there.find(key)
            if one is not None and other is not None:
                _check_same(job.label, one, other, subject.per_host and _concerns(subject, job))

    @check(runs_under_jobs)
    def no_pickle(subject: Subject) -> None:
        """No file that it or its run wrote holds a pickle."""
        found = pickles(subject.folder)
        if found:
            raise ConformanceError(
                f"a pickle in {', '.join(found[:5])}",
                "whoever opens it runs its code: keep tensors with ctx.save, facts with ctx.note",
            )

    return runs_under_jobs, no_pickle


def _plan(subject: Subject) -> Plan:
    file = subject.folder / "recipe.yaml"
    file.write_text(json.dumps(_recipe(subject), indent=1), encoding="utf-8")  # JSON is YAML
    return make_plan(load_recipe(file, host=subject.host, trust=lambda plugin: True), subject.host)


def _recipe(subject: Subject) -> dict[str, Any]:
    """The bench's recipe with the plugin in its place."""
    tested = {"uses": subject.name, "with": subject.options}
    stages: dict[str, Any] = {"train": {"uses": "testing.train", "with": dict(TRAINING)}}
    recipe: dict[str, Any] = {
        "version": 1,
        "name": "conformance",
        "plugins": [str(file.path) for file in subject.files],
        "compute": {"device": subject.device, "threads": 1},
        "data": DATA,
        "model": {"uses": "testing.net"},
        "variants": {"real": {}, "fake": {"data": {"with": {"labels": "random"}}}},
        "stages": stages,
        "evaluate": ["testing.measure"],
    }
    if subject.kind in ("trainer", "compressor"):
        stages["tested"] = {**tested, "needs": "train"}
    elif subject.kind == "evaluator":
        stages["shrink"] = {
            "uses": "testing.shrink",
            "needs": "train",
            "with": {**TRAINING, "teacher": "train"},
        }
        recipe["evaluate"] = [tested]
    elif subject.kind == "model":
        from compressit.testing.models import input_shape

        recipe["model"] = tested
        recipe["data"] = {**DATA, "with": {**DATA["with"], "shape": list(input_shape(subject))}}
    elif subject.kind == "dataset":
        recipe["data"] = {**tested, "with": {**subject.options, "limit": _LIMIT}}
    else:
        recipe["report"] = [tested]
    return recipe


def _here(subject: Subject, plan: Plan) -> Store:
    """The plan's jobs carried out in this process."""
    store = Store(subject.folder / "here")
    runner = JobRunner(store, subject.host, default_cache())
    with quiet_place(subject):
        for job in plan.pending({}):
            runner.run(job, lambda event: None)
    return store


def _there(subject: Subject, plan: Plan, here: Store) -> Store:
    """The same in worker processes, as `compressit run --jobs 2` does it."""
    from rich.console import Console

    folder, root = subject.folder / "run", subject.folder / "there"
    history = History(root, threads=1)  # so that nothing needs to be measured first
    for key, job in plan.jobs.items():
        if (artifact := here.find(key)) is not None:
            history.add(job, artifact.seconds)
    history.save()
    said = io.StringIO()
    with quiet_place(subject):
        try:
            run(plan.recipe, out=folder, store=root, jobs=JOBS, host=subject.host, console=Console(file=said))
        except StageFailed as error:
            raise ConformanceError(f"in a worker it fails: {error.message}", _tracebacks(folder)) from error
    return Store(root)


def _check_same(label: str, one: Artifact, other: Artifact, per_host: bool) -> None:
    if one.model_file.exists() and not per_host:
        names = differing(load_file(one.model_file), load_file(other.model_file))
        if names:
            raise ConformanceError(
                f"{label}: a worker process makes another model: {', '.join(names[:5])}",
                "the result may depend on the options, ctx and its streams only: on no process id, hash(), clock, "
                "environment variable, and on nothing that a module keeps from call to call",
            )
    mine: Mapping[str, Any] = one.metrics
    theirs: Mapping[str, Any] = other.metrics
    if mine.keys() != theirs.keys() or (mine != theirs and not per_host):
        raise ConformanceError(
            f"{label}: a worker process measures {dict(theirs)}, this one {dict(mine)}",
            "times and the like need `per_host = True`",
        )


def _concerns(subject: Subject, job: Job) -> bool:
    """Whether it is the plugin's own, or measures a model that the plugin made."""
    return job.uses == subject.name or job.stage == "tested"


def _tracebacks(folder: Path) -> str | None:
    """The last line of each traceback that the run left."""
    texts = [path.read_text(encoding="utf-8").strip() for path in sorted((folder / "logs").glob("*.txt"))]
    return "; ".join(text.splitlines()[-1] for text in texts if text) or None
