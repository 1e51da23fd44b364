"""Real worker processes: few runs, each looked at from several sides."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import BASE, PLUGINS, TWINS, Lab, gone_soon, plan_of, same, tensors, tiny_host

from compressit.contract.job import Job
from compressit.datasets.specs import TensorSpec, to_json
from compressit.planning.points import Plan
from compressit.recipe.model import LocalPlugin
from compressit.running.job_order import Schedule
from compressit.running.pool import WorkerOptions, WorkerProcess
from compressit.running.runner import Failure, Runner
from compressit.store.objects import Store

pytestmark = pytest.mark.usefixtures("warm_workers")

FAULTS = ["noisy", "junk", "refuse", "raise", "exit", "die", "sigkill"]


@dataclass
class Recording:
    """A listener that remembers."""

    done: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    started_jobs: list[str] = field(default_factory=list)

    def started(self, job: Job) -> None:
        self.started_jobs.append(job.label)

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self.events.append({"job": job.label, **event})

    def finished(self, job: Job, seconds: float) -> None:
        assert seconds >= 0
        self.done.append(job.label)

    def failed(self, job: Job, failure: Failure) -> None:
        self.failures[job.label] = failure

    def announce(self, text: str) -> None:
        self.said.append(text)

    def tick(self) -> None:
        pass


@dataclass
class Finished:
    plan: Plan
    listener: Recording
    store: Store
    root: Path
    runner: Runner


def _options(root: Path, digest: str | None = None) -> WorkerOptions:
    plugin = LocalPlugin(PLUGINS, digest) if digest else LocalPlugin.read(PLUGINS)
    return WorkerOptions(root / "store", root / "cache", 1, root / "logs", (plugin,))


def _run(root: Path, plan: Plan, jobs: int = 1, **options: Any) -> Finished:
    listener = Recording()
    with Runner(_options(root, **options), listener, jobs) as runner:
        runner.start(list(plan.jobs.values()))
        runner.run(list(plan.jobs.values()))
    return Finished(plan, listener, Store(root / "store"), root, runner)


# A run in which everything goes wrong that can


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("troubled")
    text = BASE + "".join(
        f"  {fault}: {{uses: tiny.train, needs: train, with: {{fault: {fault}, epochs: 1}}}}\n"
        for fault in FAULTS
    )
    text += "  of_the_dead: {uses: tiny.prune, needs: die}\n  heir: {uses: tiny.prune}\n"
    text += "  last: {uses: tiny.prune, needs: train}\nevaluate: [tiny.accuracy]\n"
    return _run(root, plan_of(text))


def test_what_is_not_concerned_by_a_failure_runs(troubled: Finished) -> None:
    made = {label.split("/")[2] for label in troubled.listener.done if " " not in label}
    assert made == {"init", "train", "noisy", "junk", "last"}
    for point in troubled.plan.points:
        present = point.name in made
        assert (troubled.store.find(point.model) is not None) == present
        (key,) = (key for key in point.metrics if troubled.plan.jobs[key].uses == "tiny.accuracy")
        assert (troubled.store.find(key) is not None) == present


def test_what_needs_a_failed_one_is_named_and_not_run(troubled: Finished) -> None:
    failed = {label.split("/")[2] for label in troubled.listener.failures}
    assert failed == {"refuse", "raise", "exit", "die", "sigkill"}
    said = next(text for text in troubled.listener.said if "because base/seed0/die failed" in text)
    skipped = {"of_the_dead", "heir", "of_the_dead tiny.accuracy", "heir tiny.accuracy", "die tiny.accuracy"}
    assert {f"base/seed0/{name}" for name in skipped} == set(said.split(": ", 1)[1].split(", "))
    assert not {"base/seed0/of_the_dead", "base/seed0/heir"} & set(troubled.listener.started_jobs)


def test_each_failure_tells_its_reason(troubled: Finished) -> None:
    failures = {label.split("/")[2]: failure for label, failure in troubled.listener.failures.items()}
    assert (failures["refuse"].message, failures["refuse"].hint) == ("the plugin refuses", "try another")
    assert failures["refuse"].traceback is None, "a mistake of the user's"
    lines = PLUGINS.read_text().splitlines()
    raised, left = (
        next(i for i, line in enumerate(lines, 1) if word in line) for word in ("RuntimeError(", "Exit(")
    )
    assert failures["raise"].message == f"RuntimeError: the plugin is broken (tiny_plugins.py:{raised})"
    assert "tiny_plugins.py" in (failures["raise"].traceback or "")
    assert failures["exit"].message == f"SystemExit: 7 (tiny_plugins.py:{left})", (
        "a plugin's sys.exit is a failure, not an end"
    )
    assert failures["die"].message.startswith("the worker process ended with exit code 3")
    assert {name for name, failure in failures.items() if failure.ended} == {"die", "sigkill"}
    assert failures["sigkill"].message.startswith("the worker process was killed (often: ")
    assert str(failures["refuse"]).startswith(
        "base/seed0/refuse: the plugin refuses\n      help: try another"
    )


def test_what_plugins_print_goes_to_a_workers_log_and_what_they_emit_is_told_as_well_as_it_can_be(
    troubled: Finished,
) -> None:
    logs = sorted((troubled.root / "logs").iterdir())
    assert [log.name for log in logs] == [f"worker-{number}.log" for number in (1, 2, 3)], "two died"
    printed = "".join(log.read_text() for log in logs)
    assert "not even JSON" in printed
    assert '{"event": "done", "seconds": 0}' in printed
    event = next(e for e in troubled.listener.events if e["job"].endswith("/junk") and "seconds" not in e)
    assert (event["event"], event["epoch"]) == ("progress", 1.0)
    assert event["loss"].startswith("<object")


# Side by side


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("two_jobs")
    plan = plan_of(TWINS.replace("tiny.fidelity", "tiny.clock"))
    patch = pytest.MonkeyPatch()
    patch.setenv("TINY_TIMES", str(root / "times.txt"))
    finished = _run(root, plan, jobs=2)
    patch.undo()
    return finished


def test_two_workers_make_the_bits_that_one_makes(two_jobs: Finished, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    alone = lab.run(two_jobs.plan)
    assert not two_jobs.listener.failures
    for point in two_jobs.plan.points:
        assert same(tensors(two_jobs.store, two_jobs.plan, point.path), lab.model(two_jobs.plan, point.path))
    for key, job in two_jobs.plan.jobs.items():
        found = two_jobs.store.find(key)
        assert found is not None
        assert (found.metrics, found.curves) == (alone[job.label].metrics, alone[job.label].curves)


def test_both_worked_and_exclusive_jobs_never_beside_another(two_jobs: Finished) -> None:
    lines = [line.split() for line in (two_jobs.root / "times.txt").read_text().splitlines()]
    assert len({process for *_, process in lines}) == 2
    running: list[str] = []
    for _, what, who, _ in sorted(lines, key=lambda line: float(line[0])):
        if what == "end":
            running.remove(who)
            continue
        running.append(who)
        assert running == ["clock"] or "clock" not in running
    assert running == []
    assert [who for _, what, who, _ in lines if what == "start"].count("clock") == 8


# What has to do with processes


def test_workers_start_together_but_no_more_than_can_be_kept_busy(tmp_path: Path) -> None:
    jobs = list(plan_of(TWINS.replace("tiny.fidelity", "tiny.clock")).jobs.values())
    clocks, shared = [j for j in jobs if j.exclusive], [j for j in jobs if not j.exclusive]
    for given, wanted in ((shared, 2), ([*clocks, shared[0]], 1), (clocks, 0)):
        with Runner(_options(tmp_path), Recording(), 2) as runner:
            runner.start(given)
            assert len(runner._workers) == wanted


def test_what_is_timed_does_not_wait_for_workers_that_start_but_ends_them(tmp_path: Path) -> None:
    plan = plan_of(BASE + "evaluate: [tiny.clock]\n")
    with Runner(_options(tmp_path), Recording(), 3) as runner:
        runner.start(list(plan.jobs.values()))
        first = runner._workers[0]
        while not first.ready:  # the others' messages are not read: they seem to start still
            worker, event = runner._events.get()
            first.ready |= worker is first and event["event"] == "ready"
        runner._events.queue.clear()
        clock = next(job for job in plan.jobs.values() if job.exclusive)
        runner._schedule = Schedule([replace(clock, inputs={})])
        runner._give_out()
        assert runner._workers == [first]
        assert first.job is not None


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(tmp_path: Path, jobs: int) -> None:
    finished = _run(tmp_path, plan_of(TWINS), jobs, digest="0" * 64)
    assert len(finished.listener.started_jobs) == 1, "the next worker would fail alike"
    failure = finished.listener.failures["real/seed0/init"]
    assert failure.message.startswith("no worker can start: ")
    assert "has changed since this run was planned" in failure.message
    assert failure.hint == "start the run again"


def test_a_setting_that_an_import_changes_changes_nobodys_results(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGINS.read_text() + "\nimport torch\ntorch.set_default_dtype(torch.float64)\n")
    listener = Recording()
    options = replace(_options(tmp_path), plugins=(LocalPlugin.read(file),))
    host = tiny_host(file)
    torch.set_default_dtype(torch.float32)  # it was imported here too
    plan = plan_of(BASE, host=host)
    with Runner(options, listener) as runner:
        runner.run(list(plan.jobs.values()))
    assert listener.said == [
        "importing a plugin changed a process setting: default dtype (now torch.float64)",
        "loading dots",
    ]
    lab = Lab(tmp_path / "lab")
    wanted = lab.run(lab.plan(BASE))["base/seed0/train"]
    made = tensors(Store(tmp_path / "store"), plan, "base/seed0/train")
    assert same(made, load_file(wanted.model_file))


def test_the_first_worker_measures_the_machine_and_then_works(tmp_path: Path) -> None:
    plan = plan_of(BASE)
    listener = Recording()
    with Runner(_options(tmp_path), listener) as runner:
        measured = runner.calibrate(
            {
                "uses": "tiny.mlp", "config": {"hidden": [8]}, "inputs": to_json(TensorSpec((1, 2, 3))), "outputs": 3,
                "work": [{"batch_size": size, "steps": 5000, "forwards": 0} for size in (16, 4, 16)], "seconds": 0.05,
                "compute": {"device": "cpu", "precision": "fp32", "compile": False},
            }
        )  # fmt: skip
        assert measured is not None
        assert [(batch, width) for batch, width, _ in measured["steps"]] == [
            (4, 1.0), (16, 1.0), (4, 0.4), (16, 0.4), (4, 0.1), (16, 0.1),
        ]  # fmt: skip
        assert all(seconds > 0 for _, _, seconds in measured["steps"])
        assert measured["forward"] > 0
        assert runner.calibrate({"uses": "tiny.nothing", "inputs": []}) is None
        runner.run(list(plan.jobs.values()))
    assert listener.done == ["base/seed0/init", "base/seed0/train"]


def test_a_worker_ends_in_the_middle_of_a_job_when_its_parent_is_gone(tmp_path: Path) -> None:
    plan = plan_of(BASE, "stages.train.with.epochs=1000000")
    lab = Lab(tmp_path)
    init, train = plan.jobs.values()
    lab.runner.run(init, lab.events.append)
    process = subprocess.Popen(
        _options(tmp_path).command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"job": train.to_json()}) + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"event": "ready"}
    assert json.loads(process.stdout.readline())["event"] == "progress"
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert lab.store.find(train.key) is None
    process.stdout.close()


def _spoken(
    root: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], WorkerProcess]:
    """What arrives from a process that does this; it speaks with `say`."""
    speaks = """
import json, os, sys
def say(message, end="\\n", fd=1):
    os.write(fd, (os.environ["COMPRESSIT_CHANNEL"] + json.dumps(message) + end).encode())
"""
    monkeypatch.setattr(WorkerOptions, "command", lambda self: [sys.executable, "-c", speaks + code])
    events: Any = queue.Queue()
    worker = WorkerProcess(1, _options(root), events)
    heard = []
    while not heard or heard[-1] != {"event": "ended"}:
        heard.append(events.get(timeout=60)[1])
    return heard, worker


def test_noise_and_half_a_line_of_a_dying_worker_are_no_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-1.log").write_text("what an older run left\n")
    code = """
os.write(1, b'[1]\\n5\\nnull\\n{"event": "done"}\\n{"event": 7}\\n\\xff\\x00 no line end')
say({"event": "ready"}, end="")
os.write(1, b"\\n" + b"[" * 100_000 + b"\\n")
say({"event": "done", "seconds": 1})
os.write(1, os.environ["COMPRESSIT_CHANNEL"].encode() + b'{"event": "prog')
sys.stderr.write("a\\nb\\nout of paper\\n\\n")
sys.exit(5)
"""
    heard, worker = _spoken(tmp_path, code, monkeypatch)
    assert [event["event"] for event in heard] == ["ready", "done", "ended"]
    assert worker.how_it_ended() == "the worker process ended with exit code 5: a / b / out of paper"
    worker.send({"job": {}})  # nobody is there; no error
    worker.end()


def test_the_end_is_told_although_a_child_keeps_the_channel_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import signal, subprocess
child = subprocess.Popen(["sleep", "600"], stdout=1)
say({"event": "ready", "child": child.pid})
os.kill(os.getpid(), signal.SIGKILL)
"""
    heard, worker = _spoken(tmp_path, code, monkeypatch)
    assert worker.how_it_ended() == "the worker process was killed (often: the machine ran out of memory)"
    assert gone_soon([heard[0]["child"]])


def test_a_worker_whose_log_cannot_be_written_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").write_text("no folder")
    heard, worker = _spoken(tmp_path, 'say({"event": "ready"}); sys.exit("lost words")', monkeypatch)
    assert heard[0] == {"event": "ready"}
    assert worker.how_it_ended() == "the worker process ended with exit code 1"


def test_what_another_run_is_making_keeps_no_worker_from_the_rest(tmp_path: Path) -> None:
    plan = plan_of(TWINS)
    first = next(job for job in plan.jobs.values() if job.kind == "stage")
    needs = {first.key}
    for job in plan.jobs.values():
        needs |= {job.key} if needs & set(job.inputs.values()) else set()
    rest = [job.label for job in plan.jobs.values() if job.key not in needs]
    assert any("train" in label for label in rest)
    listener = Recording()
    lock = Store(tmp_path / "store").lock(first.key)
    lock.__enter__()
    finished = listener.finished

    def let_go(job: Job, seconds: float) -> None:
        finished(job, seconds)
        if sorted(listener.done) == sorted(rest):
            lock.__exit__(None, None, None)

    listener.finished = let_go  # type: ignore[method-assign]
    with Runner(_options(tmp_path), listener) as runner:
        runner.run(list(plan.jobs.values()))
    assert listener.failures == {}
    assert sorted(listener.done) == sorted(job.label for job in plan.jobs.values())
    assert sorted(listener.done[: len(rest)]) == sorted(rest), "they came first"
    assert listener.started_jobs.count(first.label) == 1
    said = [text for text in listener.said if first.label in text]
    assert said
    assert str(os.getpid()) in said[0]
    assert len(said) < 5


def test_a_wait_for_another_run_ends_with_the_time_that_a_job_is_given(tmp_path: Path) -> None:
    plan = plan_of(BASE)
    init, train = plan.jobs.values()
    listener = Recording()
    with (
        Store(tmp_path / "store").lock(init.key),
        Runner(replace(_options(tmp_path), job_timeout=3), listener) as runner,
    ):
        runner.run(list(plan.jobs.values()))
    assert str(os.getpid()) in listener.failures[init.label].message
    assert "--job-timeout" in listener.failures[init.label].message
    assert any("skipped" in text and train.label in text for text in listener.said)
