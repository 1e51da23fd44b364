"""What observers are told of a run, and that nothing which they do reaches it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import Bench, plan_of, recipe_of, tiny_host

from compressit import api
from compressit.contract.job import Job
from compressit.errors import RecipeError, StageFailed
from compressit.running.observers import Observers

RECIPE = """\
version: 1
name: tiny
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  train: {uses: tiny.train, with: {epochs: 3}}
evaluate: [tiny.accuracy]
"""
JOBS = ["base/seed0/init", "base/seed0/train", "base/seed0/train tiny.accuracy"]


@dataclass
class Desk:
    """Runs recipes in one store and run folder."""

    root: Path
    said: str = ""

    def run(self, observe: str, recipe: str = RECIPE) -> api.Run:
        host, screen = tiny_host(), io.StringIO()
        console = Console(file=screen, width=200)
        made = recipe_of(recipe + observe, host, folder=self.root)
        try:
            return api.run(made, out=self.root / "run", store=self.root / "store", host=host, console=console)
        finally:
            self.said = screen.getvalue()

    def told(self, file: str = "diary.txt") -> list[dict[str, Any]]:
        """What the observer was told since this was asked last."""
        path = self.root / "run" / file
        lines = path.read_text().splitlines()
        path.unlink()
        return [json.loads(line) for line in lines]


@pytest.fixture
def desk(tmp_path: Path, bench: Bench) -> Desk:
    return Desk(tmp_path)


def _methods(told: Sequence[dict[str, Any]]) -> list[str]:
    return [line["method"] for line in told]


def test_an_observer_hears_of_a_run_from_its_start_to_its_end(desk: Desk) -> None:
    row = desk.run("observe: [tiny.observer]\n").results.rows[0]
    start, *told, end = desk.told()
    assert start == {
        "method": "run_started", "recipe": "tiny", "models": {"base/seed0/train": ["base/seed0/train", ""]},
        "jobs": JOBS, "todo": JOBS,
    }  # fmt: skip
    assert end == {"method": "run_ended", "complete": True, "failures": []}
    for label in JOBS:
        own = [line for line in told if line["job"] == label]
        assert _methods(own)[0] == "job_started"
        assert _methods(own)[-1] == "job_finished"
        assert own[-1]["seconds"] > 0
    done = {line["job"]: line for line in told if line["method"] == "job_finished"}
    assert done[JOBS[1]]["metrics"] == {}
    assert done[JOBS[1]]["curves"]["loss"] == [list(point) for point in row.curves["loss"]]
    assert done[JOBS[2]]["metrics"] == row.metrics
    progress = [line for line in told if line["method"] == "job_progress" and "epoch" in line]
    assert progress[-1]["job"] == JOBS[1]
    assert (progress[-1]["epoch"], progress[-1]["epochs"]) == (3, 3)
    assert 0 <= progress[-1]["accuracy"] <= 1


def test_what_the_store_has_is_told_as_found_also_by_a_run_with_nothing_to_do(desk: Desk) -> None:
    desk.run("observe: [tiny.observer]\n")
    first = {line["job"]: line for line in desk.told() if line["method"] == "job_finished"}
    desk.run("observe: [tiny.observer]\n")
    assert "nothing to do" in desk.said
    start, *found, end = desk.told()
    assert (start["todo"], end["complete"]) == ([], True)
    assert _methods(found) == ["job_found"] * 3
    assert [{**line, "method": "job_finished"} for line in found] == [first[label] for label in JOBS]


def test_a_failed_job_is_told_with_its_reason(desk: Desk) -> None:
    recipe = RECIPE.replace("epochs: 3", "fault: refuse")
    with pytest.raises(StageFailed):
        desk.run("observe: [tiny.observer]\n", recipe)
    told = desk.told()
    (failed,) = [line for line in told if line["method"] == "job_failed"]
    assert failed["job"] == JOBS[1]
    assert failed["message"].startswith("the plugin refuses")
    assert told[-1]["complete"] is False
    assert told[-1]["failures"][0].startswith(JOBS[1])


def test_ctrl_c_ends_an_observed_run(desk: Desk, bench: Bench) -> None:
    def before(job: Job) -> None:
        if job.kind == "stage":
            raise KeyboardInterrupt

    bench.before = before
    with pytest.raises(KeyboardInterrupt):
        desk.run("observe: [tiny.observer]\n")
    assert _methods(desk.told())[-2:] == ["job_started", "run_ended"]


def test_several_are_told_and_one_that_fails_is_named_once_and_told_on(desk: Desk) -> None:
    observe = """\
observe:
  - {uses: tiny.observer, with: {file: loud.txt, fails: job_progress}}
  - {uses: tiny.observer, with: {file: deep/quiet.txt}}
"""
    quiet = Desk(desk.root / "quiet")
    quiet.root.mkdir()
    assert desk.run(observe).results.rows[0].metrics == quiet.run("").results.rows[0].metrics
    assert desk.said.count("the observer tiny.observer failed") == 1
    assert "no room" in desk.said
    loud, told = desk.told("loud.txt"), desk.told("deep/quiet.txt")
    assert _methods(loud) == _methods(told)
    assert _methods(told).count("job_progress") > 1


def test_an_observer_changes_no_key_and_no_results(desk: Desk, tmp_path: Path) -> None:
    observed = plan_of(RECIPE + "observe: [tiny.observer]\n")
    assert dict(observed.jobs) == dict(plan_of(RECIPE).jobs)
    observers = Observers.of(observed, tmp_path, print)
    (job, *_) = [job for job in observed.jobs.values() if job.kind == "stage"]
    observers.started(job)  # it writes into the options that it gets
    assert job.config["epochs"] == 3
    kept = desk.run("observe: [tiny.observer]\n").results
    assert "observe" not in kept.config


def test_a_place_that_leads_out_of_the_runs_folder_is_not_written_to(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "logs" / "mine").symlink_to(tmp_path / "elsewhere")
    desk.run("observe: [{uses: tiny.observer, with: {file: logs/mine/x.txt}}]\n")
    assert "link" in desk.said
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("observe", "line", "says"),
    [
        ("observe: [tiny.nobody]\n", 8, "no observer is called 'tiny.nobody'"),
        ("observe: [tiny.report]\n", 8, "'tiny.report' is a report, not an observer"),
        ("observe:\n  - uses: tiny.observer\n    with: {files: x}\n", 10, "unknown key 'files'"),
        ("observe:\n  - tiny.observer\n  - {uses: tiny.observer, with: {fails: check}}\n", 10, "it has no pen"),
        ("observe: tiny.observer\n", 8, "observe"),
        ("observe: [tiny.observer, tiny.observer]\n", 8, "listed twice"),
    ],
)  # fmt: skip
def test_mistakes_of_the_block_are_found_with_their_place(observe: str, line: int, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(RECIPE + observe, tiny_host())
    (problem,) = caught.value.problems
    assert says in problem.message
    assert problem.where is not None
    assert problem.where.line == line
    if says == "it has no pen":
        assert problem.hint == "buy one"
