"""A run ends as documented whoever ends it, and words that nobody can read stop nothing."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import PLUGINS

from .conftest import Ran
from .sandbox import PATIENCE, Sandbox, wait_for

RUN = ("run", "recipe.yaml", "--out", "out", "--save-every", "0.2")
SMALL = """\
version: 1
name: small
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 64, test: 32}}
model: {uses: model.mlp, with: {hidden: [8]}}
stages:
  train: {uses: train.supervised, with: {epochs: 2}}
evaluate: [eval.size]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_run_as_ctrl_c_does(
    long: Ran, copy_of: Callable[[Ran], Sandbox], number: signal.Signals
) -> None:
    sandbox = copy_of(long)
    key = sandbox.jobs("recipe.yaml")["base/seed0/train"]["key"]
    running = sandbox.start(*RUN)
    running.until(sandbox.progress(key).exists)
    done = running.end(number)
    assert done.code == 128 + number
    assert "Traceback" not in done.err
    assert f"ended by {number.name}" in done.out
    assert "To continue: compressit run recipe.yaml" in done.out
    results = json.loads((sandbox.folder / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["failures"] == [f"base/seed0/train: ended by {number.name}"]
    assert number.name in (sandbox.folder / "out" / "report.html").read_text(encoding="utf-8")
    assert not list((sandbox.store / "locks").iterdir())
    assert not list((sandbox.store / "tmp").iterdir())


REPORTING = """
import signal, sys, time
from compressit.cli import signals
signals._SAME = float(sys.argv[1])
with signals.ending():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except signals.Ended as ended:
        print(ended, flush=True)
        time.sleep(float(sys.argv[2]))  # the report
        print("reported", flush=True)
        sys.exit(128 + ended.number)
"""


def _ending(same: float, report: float, **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", REPORTING, str(same), str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = _ending(same=0.0, report=60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "ended by SIGTERM\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    assert out == ""
    assert "at once" in err
    assert "Traceback" not in err


def test_several_signals_of_one_moment_are_one() -> None:
    process = _ending(same=60.0, report=0.5)
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "ended by SIGHUP\n"
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (128 + signal.SIGHUP, "reported\n", "")


def test_what_was_ignored_stays_ignored() -> None:
    """`nohup compressit run` outlives its terminal."""
    process = _ending(0.0, 0.0, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "ended by SIGTERM\nreported\n")


# Words that nobody can read


@pytest.fixture
def small(sandbox: Sandbox) -> Sandbox:
    """A sandbox with a recipe of a few seconds."""
    sandbox.write("recipe.yaml", SMALL)
    return sandbox


def _shell(sandbox: Sandbox, line: str) -> int:
    """Runs a line of bash in which `compressit` is the command; its exit code."""
    script = f'compressit() {{ "{sys.executable}" -m compressit "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=sandbox.folder,
        env=sandbox.environment(),
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "streams", [">/dev/full 2>/dev/full", ">&- 2>&-", "2>&1 | true; exit ${PIPESTATUS[0]}"]
)
def test_a_run_whose_words_cannot_be_written_ends_well(small: Sandbox, streams: str) -> None:
    assert _shell(small, f"compressit run recipe.yaml --out out {streams}") == 0
    results = json.loads((small.folder / "out" / "results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in results["rows"]] == ["train"]
    assert (small.folder / "out" / "report.html").exists()
    assert _shell(small, f"compressit run recipe.yaml --out out {streams}") == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_failure_keeps_its_exit_code_whatever_can_be_said_of_it(small: Sandbox) -> None:
    assert _shell(small, "compressit run nowhere.yaml 2>/dev/full") == 2
    assert _shell(small, "compressit run recipe.yaml --set stages=7 2>&- >&-") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_result_that_cannot_be_written_is_a_failure(small: Sandbox) -> None:
    assert _shell(small, "compressit plan recipe.yaml >/dev/full 2>err.txt") == 1
    said = (small.folder / "err.txt").read_text()
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert "Exception" not in said
    assert _shell(small, "compressit plan recipe.yaml --json 2>err.txt | true; exit ${PIPESTATUS[0]}") == 1
    assert (small.folder / "err.txt").read_text() == ""


def test_a_job_that_hangs_is_ended_after_the_time_it_is_given(small: Sandbox) -> None:
    hanging = "  hang: {uses: rude.stage, with: {does: hangs}}\nevaluate:"
    rude = f"plugins: [{PLUGINS.with_name('rude_plugins.py')}]\n"
    small.write("recipe.yaml", rude + SMALL.replace("evaluate:", hanging))
    done = small.run("run", "recipe.yaml", "--out", "out", "--trust", "--job-timeout", "4", code=1)
    assert "base/seed0/hang: stopped after 4 s" in done.err
    results = json.loads((small.folder / "out" / "results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in results["rows"]] == ["train"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_report_of_a_killed_run_is_drawn_no_further(small: Sandbox) -> None:
    """It would write into the folder beside the next run."""
    running = small.start("run", "recipe.yaml", "--out", "out")
    drawing: list[Path] = []

    def found() -> bool:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if b"report" in words and f"--ends-with={running.process.pid}".encode() in words:
                    drawing.append(entry)
        return bool(drawing)

    running.until(found)
    running.end(signal.SIGKILL)
    wait_for(lambda: not drawing[0].exists() or not drawing[0].read_bytes())
    assert not (small.folder / "out" / "report.html").exists()
