"""A run that is interrupted or killed goes on inside its stage and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ran
from .sandbox import Done, Sandbox, contents, rows, wait_for

RUN = ("run", "recipe.yaml", "--out", "out", "--save-every", "0.2")
TRAIN, NOISE = "base/seed0/train", "base/seed0/noise"


def test_ctrl_c_leaves_a_run_that_goes_on(long: Ran, copy_of: Callable[[Ran], Sandbox]) -> None:
    sandbox = copy_of(long)
    key = sandbox.jobs("recipe.yaml")[TRAIN]["key"]
    running = sandbox.start(*RUN)
    running.until(sandbox.progress(key).exists)
    done = running.end(signal.SIGINT)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert "To continue: compressit run recipe.yaml --out out --save-every 0.2" in done.out
    assert "interrupted" in (sandbox.folder / "out" / "report.html").read_text(encoding="utf-8")
    results = json.loads((sandbox.folder / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["rows"] == []
    assert results["missing"] == [TRAIN, NOISE]
    wait_for(lambda: not _processes(sandbox.store))

    again = sandbox.run("run", "recipe.yaml", "--out", "out")
    _went_on(again, TRAIN)
    assert "(1 already started)" in again.err
    _equal(sandbox.folder / "out", long.out)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_killed_run_leaves_no_process_and_goes_on(long: Ran, copy_of: Callable[[Ran], Sandbox]) -> None:
    sandbox = copy_of(long)
    jobs = sandbox.jobs("recipe.yaml")
    for label in ("base/seed0/init", TRAIN):  # what had been done before
        key = jobs[label]["key"]
        shutil.copytree(
            long.sandbox.store / "objects" / key[:2] / key, sandbox.store / "objects" / key[:2] / key
        )
    running = sandbox.start(*RUN)
    running.until(sandbox.progress(jobs[NOISE]["key"]).exists)
    assert _processes(sandbox.store)
    running.end(signal.SIGKILL)
    wait_for(lambda: not _processes(sandbox.store))
    assert re.search(rf"begun +shrink.noise +{NOISE}$", sandbox.run("plan", "recipe.yaml").out, re.M)

    again = sandbox.run("run", "recipe.yaml", "--out", "out")
    _went_on(again, NOISE)
    assert f"{TRAIN}: " not in again.err, "what was done is not done again"
    _equal(sandbox.folder / "out", long.out)
    assert not list((sandbox.store / "progress").iterdir()), "a finished stage needs no saved state"


def _went_on(done: Done, label: str) -> None:
    found = re.search(rf"{label}: resumed after epoch (\d+)", done.err)
    assert found is not None, done.err
    assert 1 <= int(found[1]) < 200


def _equal(ours: Path, theirs: Path) -> None:
    one, two = contents(ours), contents(theirs)
    names = [name for name in two if name.startswith("checkpoints/")]
    assert len(names) == 2
    assert {name: one[name] for name in names} == {name: two[name] for name in names}
    assert one["results.csv"] == two["results.csv"]
    assert rows(ours) == rows(theirs), "curves and notes too"


def _processes(store: Path) -> list[int]:
    """The workers, and their guards, that were started with this store."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if b"compressit.running.worker" in command and os.fsencode(store) in command:
            found.append(int(entry.name))
    return found
