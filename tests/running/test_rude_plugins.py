"""Plugins that treat their worker badly: their own branch fails, by its real name, and the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_runner import Recording
from tiny import BASE, PLUGINS, gone_soon, plan_of, tiny_host

from compressit.planning.points import Plan
from compressit.recipe.model import LocalPlugin
from compressit.running.pool import WorkerOptions
from compressit.running.runner import Failure, Runner
from compressit.store.objects import Store

pytestmark = pytest.mark.usefixtures("warm_workers")

RUDE = PLUGINS.with_name("rude_plugins.py")
FAILS = {
    "surrogates": r"RuntimeError: half \ud800 a pair, \x00, \x1b[31m, caf\udce9, end (rude_plugins.py:",
    "long_text": "RuntimeError: xxx",
    "interrupt": "KeyboardInterrupt: ",
    "generator_exit": "GeneratorExit: mine (rude_plugins.py:",
    "system_exit": "SystemExit: leaving (rude_plugins.py:",
    "no_string": "Silent: (its __str__ raises RuntimeError) (rude_plugins.py:",
    "none_string": "NoText: (its __str__ raises TypeError)",
    "odd_arguments": "ValueError: ({1: <class 'object'>}, b'\\xff', ['\\udcff'])",
    "bytes_message": "CompressitError: b'\\xff'",
    "no_message": "Wordless: ",
    "group": "BaseExceptionGroup: several (2 sub-exceptions)",
    "deep": "RecursionError: maximum recursion depth exceeded",
    "much": "MemoryError: ",
    "closes_output": "rude.stage changed process settings and did not restore them: standard output (now ",
    "closes_error": "rude.stage changed process settings and did not restore them: standard error (now ",
    "closes_all": "the worker process ended with exit code 1: ",
    "leaves": "the worker process ended with exit code 3",
    "crashes": f'the worker process ended by signal SIGSEGV: Segmentation fault at File "{RUDE}", line ',
}
GOES_WELL = ["prints", "writes_everywhere", "closes_streams", "raises_elsewhere"]


def _options(root: Path) -> WorkerOptions:
    plugins = (LocalPlugin.read(PLUGINS), LocalPlugin.read(RUDE))
    return WorkerOptions(root / "store", root / "cache", 1, root / "logs", plugins)


def _plan(*does: str, place: str = "") -> Plan:
    host = tiny_host()
    host.load_file(RUDE)
    stages = "".join(
        f"  {what}: {{uses: rude.stage, needs: train, with: {{does: {what}, place: '{place}'}}}}\n"
        for what in does
    )
    return plan_of(BASE + stages + "  last: {uses: tiny.prune, needs: train}\n", host=host)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Path]:
    root = tmp_path_factory.mktemp("rude")
    listener = Recording()
    with Runner(_options(root), listener) as runner:
        runner.run(list(_plan(*FAILS, *GOES_WELL).jobs.values()))
    return listener, root


@pytest.mark.parametrize("what", FAILS)
def test_its_branch_fails_by_its_real_name(ran: tuple[Recording, Path], what: str) -> None:
    failure: Failure = ran[0].failures[f"base/seed0/{what}"]
    assert failure.message.startswith(FAILS[what])
    assert len(failure.message) < 2500
    str(failure).encode()  # can be written anywhere
    assert (failure.traceback or "").isprintable() or "\n" in (failure.traceback or "")


def test_every_other_branch_goes_on(ran: tuple[Recording, Path]) -> None:
    done = {label.rpartition("/")[2] for label in ran[0].done}
    assert done == {"init", "train", "last", *GOES_WELL}
    assert set(ran[0].failures) == {f"base/seed0/{what}" for what in FAILS}
    keys = {job.label: job.key for job in _plan(*FAILS, *GOES_WELL).jobs.values()}
    store = Store(ran[1] / "store")
    for label, key in keys.items():
        assert (store.find(key) is not None) == (label in ran[0].done)


def test_the_whole_text_is_in_the_traceback(ran: tuple[Recording, Path]) -> None:
    failure = ran[0].failures["base/seed0/long_text"]
    assert "(100014 characters)" in failure.message
    assert "x" * 100_000 in (failure.traceback or "")


@pytest.mark.skipif(sys.platform != "linux", reason="finds descendants of every kind on Linux only")
@pytest.mark.parametrize(
    "ending", ["the run ends", "the worker is killed", "the guard is killed", "the worker is stopped"]
)
def test_what_a_plugin_started_ends_with_its_worker(tmp_path: Path, ending: str) -> None:
    place = tmp_path / "place"
    listener = Recording()
    numbers: list[int] = []

    def tick() -> None:
        if numbers or not place.exists():
            return
        numbers[:] = map(int, place.read_text().split())
        guard, own = runner._workers[0].pid, numbers[0]
        if ending == "the guard is killed":
            numbers.remove(next(n for n in numbers if os.getsid(n) == n))  # not what has a session of its own
            os.kill(guard, signal.SIGKILL)
        elif ending == "the worker is killed":
            os.kill(own, signal.SIGKILL)
        else:
            os.kill(own, signal.SIGSTOP if ending == "the worker is stopped" else signal.SIGCONT)
            raise KeyboardInterrupt

    listener.tick = tick
    plan = _plan("starts", place=str(place))
    with contextlib.suppress(KeyboardInterrupt), Runner(_options(tmp_path), listener) as runner:
        runner.run(list(plan.jobs.values()))
    assert len(numbers) >= 4
    assert gone_soon(numbers)
    if "killed" in ending:
        assert listener.failures["base/seed0/starts"].message.startswith("the worker process was killed")
        assert "base/seed0/last" in listener.done


def test_a_job_that_takes_too_long_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    listener = Recording()
    options = replace(_options(tmp_path), job_timeout=8.0)
    with Runner(options, listener) as runner:
        runner.run(list(_plan("hangs", "stops").jobs.values()))
    assert {label.rpartition("/")[2] for label in listener.done} == {"init", "train", "last"}
    for what in ("hangs", "stops"):
        failure = listener.failures[f"base/seed0/{what}"]
        assert "stopped after 8 s" in failure.message
        assert "--job-timeout" in failure.message
    assert [*(tmp_path / "store" / "tmp").glob("*"), *(tmp_path / "store" / "progress").glob("*")] == []
