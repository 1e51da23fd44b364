"""What is shown while a run goes on: it must say what happens and must never be what stops it."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import BASE, plan_of

from compressit.contract.job import Job
from compressit.planning.points import Plan
from compressit.running import display as live_module
from compressit.running.display import Live
from compressit.running.estimate import Estimate, History
from compressit.running.runner import Failure

EPOCH = {"epoch": 3, "epochs": 10, "loss": 0.123456, "accuracy": 0.987}
ODD: list[Mapping[str, Any]] = [
    {},
    {"epoch": 1},
    {"epoch": 1, "epochs": 0, "loss": None},
    {"loss": "high", "accuracy": [1]},
    {"epochs": 5},
    {"epoch": "[bold", "epochs": "[/red]"},
    {"epoch": 7.5, "epochs": 5, "loss": float("nan"), "accuracy": None},
    {"anything": {"at": "all"}},
]


@pytest.fixture
def plan() -> Plan:
    return plan_of(BASE + "  prune: {uses: tiny.prune}\nevaluate: [tiny.size]\n")


def _console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _live(console: Console, plan: Plan, tmp_path: Path, workers: int = 1) -> Live:
    return Live(console, list(plan.jobs.values()), Estimate(History(tmp_path, 1)), workers)


def _stage(plan: Plan) -> Job:
    return next(job for job in plan.jobs.values() if job.kind == "stage")


def _shown(live: Live) -> str:
    console = _console(True)
    console.print(live._bars.get_renderable())
    return _text(console)


def test_plain_lines_say_what_is_done_and_what_is_left(plan: Plan, tmp_path: Path) -> None:
    console, job = _console(False), _stage(plan)
    with _live(console, plan, tmp_path) as live:
        live.started(job)
        live.progress(job, {"resumed": 2})
        live.progress(job, EPOCH)  # too soon after the last line
        live.finished(job, 4.0)
        for other in plan.jobs.values():
            if other.kind == "evaluate":  # counted, but not told
                live.started(other)
                live.finished(other, 1.0)
        live.announce("hello")
    lines = _text(console).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[0/5, ")
    assert lines[0].endswith("base/seed0/train: resumed after epoch 2")
    assert lines[1].startswith("[1/5, ")
    assert "base/seed0/train: epoch 3/10, loss 0.1235, accuracy 98.7%, done in " in lines[1]
    assert lines[2].startswith("[3/5, ")
    assert lines[2].endswith("left] hello")


def test_plain_lines_come_now_and_then_while_a_stage_runs(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "PLAIN_EVERY", -1.0)
    console, job = _console(False), _stage(plan)
    live = _live(console, plan, tmp_path)
    live.started(job)
    live.progress(job, {"anything": 1})
    live.progress(job, EPOCH)
    assert [line.split("] ")[1] for line in _text(console).splitlines()] == [
        "base/seed0/train: running",
        "base/seed0/train: epoch 3/10, loss 0.1235, accuracy 98.7%",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_text_that_looks_like_markup_is_shown_as_it_is(plan: Plan, tmp_path: Path, terminal: bool) -> None:
    console, job = _console(terminal), _stage(plan)
    failure = Failure("train", "wrong [/red] closing [bold", hint="[link=x]")
    with _live(console, plan, tmp_path) as live:
        live.started(replace(job, label="a[/red]b[bold]"))
        assert "a[/red]b[bold]" in _shown(live)
        live.announce("files in [red] and [/nothing]")
        live.announce("mine.py:100: late :smile:\x1b]0;title\x07\nsecond\u202e line")
        live.failed(job, failure)
        live.tick()
    text = _text(console)
    assert "files in [red] and [/nothing]" in text
    assert "FAILED train: wrong [/red] closing [bold" in text
    assert "mine.py:100: late :smile:\\x1b]0;title\\x07" in text
    assert "      | second\\u202e line" in text
    assert "help" not in text, "it stands once, at the end of the run"


@pytest.mark.parametrize("event", ODD)
@pytest.mark.parametrize("terminal", [True, False])
def test_whatever_a_plugin_emits_can_be_shown(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, event: Mapping[str, Any]
) -> None:
    monkeypatch.setattr(live_module, "PLAIN_EVERY", -1.0)
    job = _stage(plan)
    with _live(_console(terminal), plan, tmp_path) as live:
        live.started(job)
        live.progress(job, event)
        assert live.eta() >= 0
        assert "base/seed0/train" in _shown(live)
        live.finished(job, 1.0)


def test_a_terminal_shows_what_runs(plan: Plan, tmp_path: Path) -> None:
    live, job = _live(_console(True), plan, tmp_path), _stage(plan)
    live.started(job)
    live.progress(job, EPOCH)
    live.tick()
    for part in ("base/seed0/train", "3/10", "0.1235", "98.7%", "0/5 jobs", "left"):
        assert part in _shown(live)


def test_the_time_left_shrinks_with_epochs_and_finished_jobs_and_with_jobs(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, job = _console(False), _stage(plan)
    live = _live(console, plan, tmp_path)
    whole = live.eta()
    assert whole == pytest.approx(Estimate(History(tmp_path, 1)).total(plan.jobs.values()))
    assert _live(console, plan, tmp_path, workers=2).eta() == pytest.approx(whole / 2)
    live.started(job)
    live.progress(job, {"epoch": 5, "epochs": 10})
    half = live.eta()
    assert half == pytest.approx(whole - 0.5)
    live.finished(job, 1.0)
    assert live.eta() < half
    slow, now = _live(console, plan, tmp_path), time.monotonic()
    slow.started(job)
    monkeypatch.setattr(live_module.time, "monotonic", lambda: now + 1000)
    slow.finished(job, 1000.0)
    assert slow.eta() > 10 * live.eta(), "what took longer than thought lets the rest take longer"


def test_a_wrong_guess_of_an_evaluation_says_nothing_of_trainings(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, stage = History(tmp_path, 1), _stage(plan)
    history.add(stage, 600.0)
    guess = next(job for job in plan.jobs.values() if job.kind == "evaluate")
    live, now = Live(_console(False), list(plan.jobs.values()), Estimate(history), 1), time.monotonic()
    live.started(guess)
    monkeypatch.setattr(live_module.time, "monotonic", lambda: now + 300)
    live.finished(guess, 300.0)
    assert 600 < live.eta() < 1200


@pytest.mark.parametrize("terminal", [True, False])
def test_how_long_a_job_has_been_silent_is_told(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    now = [1000.0]
    monkeypatch.setattr(live_module.time, "monotonic", lambda: now[0])
    console, job = _console(terminal), _stage(plan)
    live = _live(console, plan, tmp_path)
    live.started(job)
    told = []
    for seconds in range(0, 1000, 10):  # it says something after 400 s, and then nothing more
        now[0] = 1000.0 + seconds
        if seconds == 400:
            live.progress(job, EPOCH)
        before = len(_text(console))
        live.tick()
        if "silent for" in _shown(live) if terminal else "no progress for" in _text(console)[before:]:
            told.append(seconds)
    if terminal:
        assert told == [*range(70, 400, 10), *range(470, 1000, 10)]
    else:
        assert told == [70, 130, 250, 470, 530, 650, 890]
