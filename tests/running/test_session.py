"""One run from plan to folder: what it says, what it leaves behind, also when it is interrupted."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import BASE, TWINS, Bench, Lab, job_of, plan_of, tiny_host

from compressit.contract.job import Job
from compressit.contract.results import Results
from compressit.errors import CompressitError
from compressit.planning.points import Plan
from compressit.running import session
from compressit.running.session import run_plan

FAILING = TWINS.replace("uses: tiny.prune}", "uses: tiny.prune, with: {sparsity: 0}}")


class Desk:
    """Runs plans into one folder from one store."""

    def __init__(self, root: Path) -> None:
        self.folder, self.store = root / "run", root / "store"
        self.said = io.StringIO()

    def run(self, plan: Plan, **options: Any) -> tuple[Results, list[str]]:
        console = Console(file=self.said, width=200)
        return run_plan(
            plan, tiny_host(), folder=self.folder, store=self.store, console=console, command="c", **options
        )

    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_run_fills_the_folder_and_a_second_one_does_nothing(desk: Desk, bench: Bench) -> None:
    plan = plan_of(TWINS)
    results, failures = desk.run(plan)
    assert failures == []
    assert len(bench.ran) == len(plan.jobs)
    assert [row.name for row in results.rows] == ["train", "prune", "shrink-01", "shrink-02"] * 2
    before = {path: path.stat().st_mtime_ns for path in desk.folder.rglob("*")}
    bench.ran.clear()
    again, failures = desk.run(plan_of(TWINS))
    assert (bench.ran, bench.drawn, failures) == ([], 1, [])
    assert "nothing to do: all 33 results are in the store" in desk.said.getvalue()
    assert again.table() == results.table()
    assert {path: path.stat().st_mtime_ns for path in desk.folder.rglob("*")} == before


def test_results_that_only_a_next_stage_needs_need_not_be_there(desk: Desk, bench: Bench) -> None:
    """The finished run is finished although init has been cleaned away."""
    plan = plan_of(TWINS)
    desk.run(plan)
    init = next(job for job in plan.jobs.values() if job.kind == "init")
    (desk.store / "objects" / init.key[:2] / init.key / "manifest.json").unlink()
    (desk.folder / "report.html").unlink()
    bench.ran.clear()
    desk.run(plan)
    assert (bench.ran, bench.drawn) == ([], 2)
    desk.run(plan)
    assert bench.drawn == 2, "and known to be finished"


def test_a_folder_for_results_of_another_run_is_filled_without_running(desk: Desk, bench: Bench) -> None:
    desk.run(plan_of(TWINS))
    bench.ran.clear()
    desk.folder = desk.folder.with_name("other")
    results, _ = desk.run(plan_of(TWINS))
    assert bench.ran == []
    assert len(results.rows) == 8
    assert (desk.folder / "checkpoints/fake/seed0/shrink-02.safetensors").exists()


def test_a_change_runs_only_what_it_concerns(desk: Desk, bench: Bench) -> None:
    desk.run(plan_of(TWINS))
    bench.ran.clear()
    desk.run(plan_of(TWINS, "stages.prune.with.sparsity=0.9"))
    assert {label.split()[0].split("/")[2] for label in bench.ran} == {"prune"}
    assert len(bench.ran) == 2 * 4


def test_what_fails_is_told_with_the_place_of_its_traceback_and_tried_again(desk: Desk, bench: Bench) -> None:
    plan = plan_of(FAILING)
    results, failures = desk.run(plan)
    assert len(failures) == 2
    assert failures[0].startswith("real/seed0/prune: tiny.prune changed nothing")
    log = desk.folder / "logs" / "real_seed0_prune.txt"
    assert f"(the traceback is in {log})" in failures[0]
    assert log.read_text() == "Traceback: …"
    assert results.failures == failures
    assert list(results.missing) == ["real/seed0/prune", "fake/seed0/prune"]
    assert [row.name for row in results.rows] == ["train", "shrink-01", "shrink-02"] * 2
    assert desk.facts()["state"] == "written"
    bench.ran.clear()
    assert len(desk.run(plan)[1]) == 2
    assert bench.ran == []


@pytest.mark.parametrize("what", ["folder", "store"])
@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(
    desk: Desk, bench: Bench, tmp_path: Path, what: str, below: str
) -> None:
    (tmp_path / "file").write_text("x")
    place = tmp_path / "file" / below
    setattr(desk, what, place)
    with pytest.raises(CompressitError, match="cannot be written") as caught:
        desk.run(plan_of(TWINS))
    assert str(place) in caught.value.message
    assert ("--out" if what == "folder" else "--store") in str(caught.value.hint)
    assert caught.value.exit_code == 2
    assert bench.ran == []


def test_doubtful_models_are_told_at_the_end(
    desk: Desk, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Results, "warnings", lambda self: [f"model {i}: the training diverged" for i in range(12)]
    )
    for _ in range(2):  # the second has nothing to do
        desk.said.truncate(0)
        desk.run(plan_of(TWINS))
        assert "warning: model 9: the training diverged" in desk.said.getvalue()
        assert "model 10" not in desk.said.getvalue()
        assert "warning: 2 more" in desk.said.getvalue()


def test_classes_that_the_data_lack_are_told_before_the_training_and_at_the_end(
    desk: Desk, bench: Bench
) -> None:
    for _ in range(2):  # the second has nothing to do
        results, _ = desk.run(plan_of(BASE, "data.with.limit=2"))
        assert desk.said.getvalue().count("warning: base: `limit: 2` keeps fewer") == 1
        assert len(results.warnings()) == 2
        desk.said.truncate(0)
    assert plan_of(BASE).recipe.doubts() == []


# Interrupted


def _interrupt_at(label: str, error: type[BaseException] = KeyboardInterrupt) -> Any:
    def before(job: Job) -> None:
        if job.label == label:
            raise error

    return before


def test_ctrl_c_leaves_results_of_what_is_done_and_a_run_that_goes_on(
    desk: Desk, bench: Bench, tmp_path: Path
) -> None:
    plan = plan_of(TWINS)
    bench.before = _interrupt_at("fake/seed0/prune")
    with pytest.raises(KeyboardInterrupt):
        desk.run(plan)
    assert not bench.workers_live
    results = Results.read_json(desk.folder / "results.json")
    assert [f"{row.variant}/{row.name}" for row in results.rows] == ["real/train", "real/prune", "fake/train"]
    assert results.missing[:3] == ["real/seed0/shrink-01", "real/seed0/shrink-02", "fake/seed0/prune"]
    assert results.failures == ["fake/seed0/prune: interrupted"]
    assert (desk.folder / "report.html").exists()
    assert (desk.folder / "checkpoints/real/seed0/prune.safetensors").exists()
    assert desk.facts()["state"] == "written"
    assert len(json.loads((desk.store / "history.json").read_text())) > 1, (
        "what it learned about time is kept"
    )

    done = set(bench.ran)
    bench.ran.clear()
    bench.before = lambda job: None
    finished, failures = desk.run(plan)
    assert failures == []
    assert not done & set(bench.ran)
    whole = Lab(tmp_path / "whole")
    expected = whole.run(whole.plan(TWINS))
    for row in finished.rows:
        label = f"{row.variant}/seed0/{row.name}"
        assert row.metrics == {
            name: value
            for evaluator in ("tiny.accuracy", "tiny.size", "tiny.fidelity")
            for name, value in expected[f"{label} {evaluator}"].metrics.items()
        }


def test_whatever_else_ends_a_run_leaves_as_much(desk: Desk, bench: Bench) -> None:
    bench.before = _interrupt_at("real/seed0/prune", SystemExit)
    with pytest.raises(SystemExit):
        desk.run(plan_of(TWINS))
    assert not bench.workers_live
    results = Results.read_json(desk.folder / "results.json")
    assert results.failures == ["real/seed0/prune: stopped by SystemExit"]


def test_ctrl_c_during_the_calibration_is_an_interrupted_run_too(
    desk: Desk, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session._Run, "_calibration", interrupted)
    with pytest.raises(KeyboardInterrupt):
        desk.run(plan_of(TWINS))
    assert not bench.workers_live
    assert Results.read_json(desk.folder / "results.json").rows == []


@pytest.mark.parametrize(("error", "code"), [(RuntimeError, 2), (ChildProcessError, 1)])
def test_a_dry_run_that_fails_is_a_mistake_unless_its_worker_was_killed(
    desk: Desk, bench: Bench, error: type[Exception], code: int
) -> None:
    bench.before = _interrupt_at("base/seed0/cut dry run", error)
    with pytest.raises(CompressitError, match="nothing was trained") as caught:
        desk.run(plan_of(BASE + "  cut: {uses: tiny.cut, with: {units: 6}}\n"))
    assert caught.value.exit_code == code
    assert "base/seed0/train" not in bench.ran


# What it says first


def test_the_first_run_measures_and_the_second_knows(desk: Desk, bench: Bench) -> None:
    plan = plan_of(TWINS)
    desk.run(plan)
    [request] = bench.requests
    assert (request["uses"], request["config"]) == ("tiny.mlp", {"hidden": [12]})
    assert (request["inputs"]["shape"], request["outputs"]) == ([1, 2, 3], 3)
    assert {work["batch_size"] for work in request["work"]} == {16, 128}
    assert request["compute"] == {"device": "auto", "precision": "fp32", "compile": False}
    assert "tiny: 33 of 33 jobs to do, about " in desk.said.getvalue()
    shutil.rmtree(desk.store / "objects")
    desk.run(plan)
    assert len(bench.requests) == 1, "it has a history"


def test_stages_that_were_begun_are_counted(desk: Desk, bench: Bench) -> None:
    plan = plan_of(TWINS)
    Lab(desk.store.parent).store.save_progress(
        job_of(plan, "real/seed0/train").key, {}, lambda file: file.write_bytes(b"") and None
    )
    bench.before = _interrupt_at("real/seed0/init")
    with pytest.raises(KeyboardInterrupt):
        desk.run(plan, workers=2)
    assert "33 of 33 jobs to do (1 already started), about " in desk.said.getvalue()
    assert "with 2 workers of" in desk.said.getvalue()


@pytest.mark.parametrize(
    ("asked", "jobs", "cores", "threads"),
    [("auto", 1, 8, 8), ("auto", 3, 8, 2), ("auto", 9, 2, 1), (5, 2, 2, 5)],
)
def test_workers_share_the_cores_unless_the_recipe_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, asked: object, jobs: int, cores: int, threads: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert session._threads(plan_of(BASE, f"compute.threads={asked}").recipe, jobs) == threads


def test_a_damaged_result_is_said_and_made_again(desk: Desk, bench: Bench) -> None:
    plan = plan_of(TWINS)
    desk.run(plan)
    key = job_of(plan, "real/seed0/prune").key
    (desk.store / "objects" / key[:2] / key / "model.safetensors").write_bytes(b"junk")
    bench.ran.clear()
    desk.run(plan)
    assert bench.ran == ["real/seed0/prune"]
    assert f"the result {key[:12]} is damaged and will be made again" in desk.said.getvalue()
