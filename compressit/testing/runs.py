"""Checks of whole runs: the plugin gives the same results in worker processes, and no file contains a pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, cast

from safetensors.torch import load_file

from compressit.api import run
from compressit.config import model_refs
from compressit.contract.tasks import Task
from compressit.datasets.task_spec import CLASSIFICATION
from compressit.errors import StageFailed
from compressit.paths import default_cache
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import load_recipe
from compressit.running.estimate import History
from compressit.running.job import JobRunner
from compressit.store.objects import Artifact, Store
from compressit.testing import datasets, models, observers, reports, stages, tasks
from compressit.testing.check import ConformanceError, NotApplicable, check, none_found
from compressit.testing.fingerprint import changed
from compressit.testing.pickles import pickles
from compressit.testing.stand import DATA, TRAINING, check_task
from compressit.testing.subject import Subject
from compressit.testing.watch import differing, quiet_place

JOBS = 2
RECIPE: Mapping[str, Any] = {
    "version": 1,
    "name": "conformance",
    "data": DATA,
    "model": {"uses": "testing.net"},
    "variants": {"real": {}, "fake": {"data": {"with": {"labels": "random"}}}},
    "stages": {"train": {"uses": "testing.train", "with": TRAINING}},
    "evaluate": ["testing.measure"],
}
"""The base recipe, to which the plugin is added."""
WIDEN = {"uses": "testing.widen", "needs": "init"}
SHRINK = {"uses": "testing.shrink", "needs": "train", "with": {**TRAINING, "teacher": "train"}}


# If one of these fails, a run would only fail for the same reason.
@check(
    needs=[
        stages.runs, stages.same_seed_same_result, stages.saves_and_reloads, models.saves_and_reloads,
        models.gradients_flow, datasets.as_declared, datasets.same_twice, tasks.scores_declared, reports.draws,
        observers.watches,
    ]
)  # fmt: skip
def runs_under_jobs(subject: Subject) -> None:
    """Two worker processes give the same results as this process."""
    plan = _plan(subject)
    here = _here(subject, plan)
    there = _there(subject, plan, here)
    for key, job in plan.jobs.items():
        one, other = here.find(key), there.find(key)
        if one is not None and other is not None:
            measures_this_machine = subject.per_host and (job.uses == subject.name or job.stage == "tested")
            _check_same(job.label, one, other, measures_this_machine)


@check(needs=[runs_under_jobs])
def no_pickle(subject: Subject) -> None:
    """No file written by it or its run contains a pickle."""
    none_found(
        pickles(subject.folder),
        "found a pickle in",
        "opening a pickle can run its code: save tensors with ctx.save and facts with ctx.note",
    )


def _plan(subject: Subject) -> Plan:
    check_task(subject.create())
    tested: dict[str, Any] = {"uses": subject.name, "with": subject.options}
    match subject.kind:
        case "evaluator":
            changes = {"stages": {**RECIPE["stages"], "shrink": SHRINK}, "evaluate": [tested]}
        case "model":
            shape = {**DATA["with"], "shape": models.input_shape(subject)}
            changes = {"model": tested, "data": {**DATA, "with": shape}}
        case "dataset":
            changes = {"data": {**tested, "with": {**subject.options, "limit": 96}}}
            target = subject.host.task(subject.create().task).target
            if target == "map":
                raise NotApplicable("the kit has no net that answers for pixels")
            if target == "vector":  # no random classes
                changes["variants"] = {"real": {}, "fake": {"data": {"with": {"labels": "shuffled"}}}}
        case "report":
            changes = {"report": [tested]}
        case "observer":
            changes = {"observe": [tested]}
        case "task":
            task = cast("type[Task[Any]]", subject.plugin)
            if CLASSIFICATION not in task.does() | task.takes:
                raise NotApplicable("the kit's data pose a classification")
            changes = {"task": tested, "evaluate": ["testing.measure"]}
        case _:
            wide = {"wide": WIDEN} if "wide" in dict(model_refs(subject.config)).values() else {}
            changes = {"stages": {**RECIPE["stages"], **wide, "tested": {**tested, "needs": "train"}}}
    place = {
        "compute": {"device": subject.device, "threads": 1},
        "plugins": [str(f.path) for f in subject.files],
    }
    file = subject.folder / "recipe.yaml"
    file.write_text(json.dumps({**RECIPE, **place, **changes}, indent=1), encoding="utf-8")  # JSON is YAML
    return make_plan(load_recipe(file, host=subject.host, trust=lambda plugin: True), subject.host)


def _here(subject: Subject, plan: Plan) -> Store:
    """Runs the plan's jobs in this process."""
    store = Store(subject.folder / "here")
    runner = JobRunner(store, subject.host, default_cache())
    with quiet_place(subject):
        for job in plan.pending({}):
            runner.run(job, lambda event: None)
    return store


def _there(subject: Subject, plan: Plan, here: Store) -> Store:
    """Runs the plan in worker processes, like `compressit run --jobs 2`."""
    from rich.console import Console

    folder, root = subject.folder / "run", subject.folder / "there"
    history = History(root, threads=1)  # avoids a calibration
    for key, job in plan.jobs.items():
        if (artifact := here.find(key)) is not None:
            history.add(job, artifact.seconds)
    history.save()
    console = Console(file=io.StringIO())
    with quiet_place(subject):
        try:
            run(plan.recipe, out=folder, store=root, jobs=JOBS, host=subject.host, console=console)
        except StageFailed as error:
            raise ConformanceError(f"it fails in a worker process: {error.message}") from error
    return Store(root)


def _check_same(label: str, one: Artifact, other: Artifact, per_host: bool) -> None:
    mine, theirs = ({**found.metrics, **_recorded(found)} for found in (one, other))
    if per_host:  # only the names must match
        mine, theirs = dict.fromkeys(mine), dict.fromkeys(theirs)
    elif one.model_file.exists():
        none_found(
            differing(load_file(one.model_file), load_file(other.model_file)),
            f"{label}: a worker process makes a different model",
            "the result may only depend on the options, ctx and its streams: not on process id, hash(), clock, "
            "environment variables or module state kept between calls",
        )
    none_found(
        (f"{name} = {theirs.get(name)}, not {mine.get(name)}" for name in changed(mine, theirs)),
        f"{label}: a worker process measures",
        "set `per_host = True` for times and the like",
    )


def _recorded(found: Artifact) -> dict[str, str]:
    """The curves, and the digests of arrays and pictures."""
    files = {
        name: digest for name, digest in found.manifest["files"].items() if name != found.model_file.name
    }
    return files | {f"the curve {name}": str(points) for name, points in found.curves.items()}
