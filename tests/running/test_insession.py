"""The session as its own worker: jobs as in a process, and the session afterwards as it was."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import BASE, Bench, Lab, plan_of, point, recipe_of, same, tensors, tiny_host
from torch import nn

import compressit
from compressit.contract.compute import device_of
from compressit.contract.job import Job
from compressit.errors import CompressitError
from compressit.running.insession import SessionWorker
from compressit.running.pool import WorkerOptions
from compressit.running.process_state import borrowed
from compressit.running.runner import Failure, Runner
from compressit.store.objects import Store

LONG = BASE.replace("{uses: tiny.train}", "{uses: tiny.train, with: {epochs: 4}}") + (
    "  prune: {uses: tiny.prune}\nevaluate: [tiny.accuracy]\n"
)


class Screen:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.failures: dict[str, Failure] = {}
        self.done: list[str] = []
        self.said: list[str] = []
        self.shown_after = 0  # events that were shown before the first job was done

    def started(self, job: Job) -> None:
        pass

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def finished(self, job: Job, seconds: float) -> None:
        self.done.append(job.label.split("/", 2)[2])

    def failed(self, job: Job, failure: Failure) -> None:
        self.failures[job.label.split("/", 2)[2]] = failure

    def announce(self, text: str) -> None:
        self.said.append(text)

    def tick(self) -> None:
        self.shown_after += bool(self.events and not self.done)


def _run(root: Path, text: str, screen: Screen) -> Store:
    """Carries out a plan in this process."""
    host = tiny_host()
    options = WorkerOptions(
        root / "store", root / "cache", 1, root / "logs", save_every=0.0, session=host, forks=False
    )
    with Runner(options, screen) as runner:
        runner.run([job for job in plan_of(text, host=host).jobs.values() if not _made(root, job)])
    return Store(root / "store")


def _made(root: Path, job: Job) -> bool:
    return Store(root / "store").find(job.key) is not None


def test_it_makes_what_a_worker_makes_and_shows_how_far_it_is(tmp_path: Path) -> None:
    screen, lab, plan = Screen(), Lab(tmp_path / "lab"), plan_of(LONG)
    lab.run(plan)
    store = _run(tmp_path, LONG, screen)
    assert set(screen.done) == {"init", "train", "train tiny.accuracy", "prune", "prune tiny.accuracy"}
    assert screen.shown_after, "it is shown while the job runs"
    for made in plan.points:
        assert same(tensors(store, plan, made.path), tensors(lab.store, plan, made.path))
        for key in made.metrics:
            assert store.find(key).metrics == lab.store.find(key).metrics  # type: ignore[union-attr]


def test_ctrl_c_ends_it_at_once_and_the_next_run_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, before = plan_of(LONG), torch.get_num_threads()
    key, screen = point(plan, "base/seed0/train").model, Screen()
    monkeypatch.setenv("TINY_KILL", "3")  # raised in the third epoch
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, LONG, screen)
    monkeypatch.delenv("TINY_KILL")
    assert "train" not in screen.done
    assert Store(tmp_path / "store").has_progress(key)
    assert torch.get_num_threads() == before
    again = Screen()
    store = _run(tmp_path, LONG, again)
    assert not again.failures
    assert not any("waiting" in text for text in again.said), "the first holds no lock"
    assert {"resumed": 2, "event": "progress"} in again.events
    lab = Lab(tmp_path / "lab")
    lab.run(plan)
    assert same(tensors(store, plan, "base/seed0/train"), tensors(lab.store, plan, "base/seed0/train"))


@pytest.mark.parametrize(
    ("fault", "told"), [("raise", "the plugin is broken"), ("exit", "SystemExit"), ("refuse", "refuse")]
)
def test_what_a_plugin_raises_fails_its_job_only(tmp_path: Path, fault: str, told: str) -> None:
    text = BASE + f"  bad: {{uses: tiny.train, needs: train, with: {{fault: {fault}}}}}\n"
    text += "  last: {uses: tiny.prune, needs: train}\n"
    screen = Screen()
    _run(tmp_path, text, screen)
    assert screen.done == ["init", "train", "last"]
    assert screen.failures.keys() == {"bad"}
    assert told in screen.failures["bad"].message


def test_a_session_finds_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with borrowed(), warnings.catch_warnings():
        monkeypatch.chdir(tmp_path)
        warnings.simplefilter("error", ResourceWarning)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_num_threads(2)
        torch.manual_seed(11)
        np.random.seed(12)
        random.seed(13)
        before = _state()
        _run(tmp_path, LONG, Screen())
        assert _state() == before
        with borrowed():
            assert torch.is_grad_enabled()
            assert torch.get_default_dtype() == torch.float32
            monkeypatch.undo()
            os.environ["THEIRS"] = "1"
            os.environ["MINE"] = "2"
            signal.signal(signal.SIGUSR1, lambda number, frame: None)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            warnings.simplefilter("ignore")
            torch.set_num_threads(1)
            sys.stdout = sys.stderr
        assert _state() == before
        os.environ.pop("MINE")


def _state() -> dict[str, Any]:
    numpy: Any = np.random.get_state()
    return {
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "threads": torch.get_num_threads(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": (numpy[1].tolist(), *numpy[2:]),
        "python": random.getstate(),
        "filters": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "recursion": sys.getrecursionlimit(),
    }


def test_events_are_as_they_arrive_from_a_process() -> None:
    heard: list[Any] = []
    options = WorkerOptions(Path("store"), Path("cache"), 1, Path("logs"))
    worker = SessionWorker(1, options, tiny_host(), lambda worker, event: heard.append(event))
    worker._hear({"event": "progress", "loss": torch.tensor(0.5), "text": "\ud800", "many": (1, 2)})
    assert heard == [{"event": "progress", "loss": 0.5, "text": "?", "many": [1, 2]}]
    assert worker.deadline == math.inf


@pytest.fixture
def live(tmp_path: Path) -> Callable[..., None]:
    """Runs a recipe with a model that only this process has."""
    host = tiny_host()

    @compressit.model("session.flat")
    def flat(width: int = 3) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(6, width))

    mine = compressit.installed().find("session.flat")
    host.add_model(mine.plugin, mine.source)
    recipe = recipe_of(BASE.replace("tiny.mlp", "session.flat"), host)

    def run(**options: Any) -> None:
        compressit.run(recipe, out=tmp_path / "out", store=tmp_path / "store", host=host, **options)

    return run


def test_no_job_has_a_time_limit_where_nothing_could_end_it(
    tmp_path: Path, live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compressit.contract.compute.forks_compute", lambda device: False)
    with pytest.raises(CompressitError, match=r"job_timeout=5: .*'session\.flat'"):
        live(job_timeout=5)
    assert not (tmp_path / "out").exists()


def test_that_forks_cannot_compute_is_told_and_one_job_runs_at_a_time(
    bench: Bench,
    live: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("compressit.contract.compute.forks_compute", asked.append)  # None: they cannot
    live(jobs=4)
    said = capsys.readouterr().err.replace("\n", " ")
    assert asked == [device_of("auto")]
    assert "in this process, one at a time" in said
    assert "'session.flat'" in said
    assert "1 worker of 1 thread" in said
