"""What tests of plans and runs share: the tiny plugins, recipes of them, and jobs run in this process."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from compressit.contract.job import Job
from compressit.host.plugins import Host
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import LocalPlugin, Recipe
from compressit.results.runfolder import RunFolder
from compressit.running.job import JobRunner
from compressit.running.job_order import Schedule
from compressit.running.runner import Failure, Listener
from compressit.store.objects import Artifact, Store

PLUGINS = Path(__file__).parent / "fixtures" / "tiny_plugins.py"

BASE = """\
version: 1
name: tiny
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  train: {uses: tiny.train}
"""

TWINS = """\
version: 1
name: tiny
plugins: [PLUGINS]
data: {uses: tiny.data}
model: {uses: tiny.mlp}
variants: {real: {}, fake: {data: {with: {labels: random}}}}
stages:
  train: {uses: tiny.train}
  prune: {uses: tiny.prune}
  shrink: {uses: tiny.shrink, needs: train, repeat: 2, feed: original, with: {teacher: train}}
evaluate: [tiny.accuracy, tiny.size, tiny.fidelity]
report: [tiny.report]
""".replace("PLUGINS", str(PLUGINS))
"""Two variants of one init: 8 models, 24 evaluations."""


def tiny_host(plugins: Path = PLUGINS) -> Host:
    """A host with the tiny plugins only."""
    host = Host(entry_points=False)
    host.load_file(plugins)
    return host


def recipe_of(text: str, host: Host, *settings: str, folder: Path | None = None) -> Recipe:
    """The recipe, with these `--set` arguments; paths in it are relative to `folder`."""
    path = folder / "recipe.yaml" if folder else None
    return parse_recipe(text, "recipe.yaml", host, None, settings, lambda plugin: True, path)


def plan_of(text: str, *settings: str, host: Host | None = None, folder: Path | None = None) -> Plan:
    """The plan of a recipe's text."""
    host = host or tiny_host()
    return make_plan(recipe_of(text, host, *settings, folder=folder), host)


@dataclass
class Lab:
    """A store in which jobs are run by this process, one after another."""

    root: Path
    host: Host = field(default_factory=tiny_host)
    save_every: float = 1000.0
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.warnings: list[str] = []
        self.store = Store(self.root / "store", warn=self.warnings.append)
        self.runner = self.new_runner()

    def new_runner(self) -> JobRunner:
        """As a new worker has it: nothing in memory."""
        return JobRunner(self.store, self.host, self.root / "cache", self.save_every)

    def plan(self, text: str, *settings: str) -> Plan:
        return plan_of(text, *settings, host=self.host, folder=self.root)

    def run(self, plan: Plan) -> dict[str, Artifact]:
        """Runs what the plan needs; returns its models by path and evaluations by label."""
        found = {}
        for job in plan.pending({key: self.store.find(key) is not None for key in plan.jobs}):
            self.runner.run(job, self.events.append)
        for key, job in plan.jobs.items():
            artifact = self.store.find(key)
            if artifact is not None:
                found[job.label] = artifact
        return found

    def model(self, plan: Plan, path: str) -> dict[str, Tensor]:
        """The tensors of a model of the plan."""
        return tensors(self.store, plan, path)


def tensors(store: Store, plan: Plan, path: str) -> dict[str, Tensor]:
    """The tensors of the model at this path, from the store."""
    artifact = store.find(point(plan, path).model)
    assert artifact is not None, path
    return load_file(artifact.model_file)


def point(plan: Plan, path: str) -> Any:
    """The plan's point of that path: `real/seed0/train`."""
    return next(p for p in plan.points if p.path == path)


def job_of(plan: Plan, path: str) -> Job:
    """The job that makes the model of that path."""
    return plan.jobs[point(plan, path).model]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Equal names and bits."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@dataclass
class Bench:
    """Takes the places of `Runner` and of the drawing process where tests want neither: fixture `bench`."""

    before: Callable[[Job], None] = lambda job: None  # may raise, in a job's stead
    ran: list[str] = field(default_factory=list)
    drawn: int = 0
    draw_fails: bool = False
    figures: Sequence[str] = ()  # what it draws
    requests: list[Mapping[str, Any]] = field(default_factory=list)  # for calibrations
    workers_live: bool = False

    def runner(self, options: Any, listener: Listener, jobs: int = 1) -> InProcessRunner:
        return InProcessRunner(self, options, listener)

    def draw(self, folder: RunFolder, stdout: Any, stderr: Any) -> Drawing:
        assert not self.workers_live or stderr == subprocess.DEVNULL, (
            "the last one waits for the workers' end"
        )
        self.drawn += 1
        (folder.folder / "report.html").write_text("<p>report</p>")
        for name in self.figures:
            (folder.folder / "figures").mkdir(exist_ok=True)
            (folder.folder / "figures" / name).unlink(missing_ok=True)
            (folder.folder / "figures" / name).write_bytes(b"drawn")
        if self.draw_fails:
            stderr.write(b"the pencil broke\n")
        return Drawing(1 if self.draw_fails else 0)


@dataclass
class Drawing:
    """A drawing process that has ended."""

    returncode: int

    def poll(self) -> int:
        return self.returncode

    def kill(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode


class InProcessRunner:
    """`Runner` without processes."""

    def __init__(self, bench: Bench, options: Any, listener: Listener) -> None:
        host = options.session or _worker_host(options.plugins)
        self._bench = bench
        self._jobs = JobRunner(Store(options.store), host, options.cache, options.save_every)
        self.listener = listener

    def __enter__(self) -> InProcessRunner:
        self._bench.workers_live = True
        return self

    def __exit__(self, *error: object) -> None:
        self._bench.workers_live = False

    def start(self, jobs: Sequence[Job]) -> None:
        pass

    def calibrate(self, request: Mapping[str, Any]) -> None:
        self._bench.requests.append(request)

    def run(self, jobs: Sequence[Job]) -> None:
        schedule = Schedule(jobs)
        while (job := schedule.next([], 0)) is not None:
            schedule.start(job, 0)
            self.listener.started(job)
            try:
                self._bench.before(job)
                done = self._jobs.run(job, partial(self.listener.progress, job))
            except Exception as error:  # noqa: BLE001 - as a worker does
                schedule.fail(job)
                self.listener.failed(job, _failure(job, error))
            else:
                self._bench.ran.append(job.label)
                schedule.finish(job)
                self.listener.finished(job, done.seconds)
            self.listener.tick()


def _worker_host(plugins: Sequence[LocalPlugin]) -> Host:
    """As a worker has it, and the tiny plugins even where the recipe does not name their file."""
    host = Host()
    for plugin in plugins:
        host.load_file(plugin.path, plugin.digest)
    if "tiny.data" not in host.names():
        host.load_file(PLUGINS)
    return host


def _failure(job: Job, error: Exception) -> Failure:
    """As a worker tells it; a ChildProcessError stands for one that was killed."""
    ended = isinstance(error, ChildProcessError)
    return Failure(job.label, str(error), traceback="Traceback: …", ended=ended)


def gone_soon(pids: Iterable[int]) -> bool:
    """Whether these processes end within a while."""
    deadline = time.monotonic() + 30
    left = list(pids)
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = [pid for pid in left if not _gone(pid)]
    return not left


def _gone(pid: int) -> bool:
    """Ended, or waiting for somebody to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
