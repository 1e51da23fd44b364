"""Two runs at once on one store: they wait for each other, share their work and end alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from tiny import TWINS

from .sandbox import PATIENCE, Running, Sandbox, rows

pytestmark = pytest.mark.usefixtures("warm_workers")

RECIPE = (
    TWINS[: TWINS.index("stages:")]
    + """\
stages:
  first: {uses: tiny.train}
  second: {uses: tiny.train}
  third: {uses: tiny.train, needs: first}
evaluate: [tiny.accuracy, tiny.size]
"""
)


def test_no_job_is_done_twice_and_both_end_with_the_same_results(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_TIMES", str(sandbox.folder / "calls.txt"))
    sandbox.write("recipe.yaml", RECIPE)
    jobs = sandbox.jobs("recipe.yaml", "--trust")
    held = sandbox.store / "locks" / f"{jobs['real/seed0/init']['key']}.lock"
    held.parent.mkdir(parents=True)
    with FileLock(held):  # neither can begin before both have planned to do everything
        runs = {out: sandbox.start("run", "recipe.yaml", "--trust", "--out", out) for out in ("one", "two")}
        for run in runs.values():
            run.until(lambda run=run: f"{len(jobs)} of {len(jobs)} jobs to do" in run.log.read_text())
    for run in runs.values():
        _ended_well(run)

    calls = [line.split()[1:3] for line in (sandbox.folder / "calls.txt").read_text().splitlines()]
    for plugin in ("train", "accuracy"):
        assert calls.count(["start", plugin]) == 2 * 3, "two variants of three stages, each with its accuracy"
    one, two = (sandbox.folder / out for out in runs)
    assert (one / "results.csv").read_bytes() == (two / "results.csv").read_bytes()
    assert rows(one) == rows(two)
    assert len(rows(one)) == 6
    published = {path.parent.name for path in sandbox.store.glob("objects/*/*/manifest.json")}
    assert published == {job["key"] for job in jobs.values()}
    assert not _left(sandbox.store)


def _ended_well(run: Running) -> None:
    run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == 0, run.log.read_text()


def _left(store: Path) -> list[Path]:
    """Half-written results and saved states."""
    return [path for folder in ("tmp", "progress") for path in (store / folder).glob("*")]
