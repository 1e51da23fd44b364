"""How long it will take: from history, else from a calibration, in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import BASE, job_of, plan_of

from compressit.planning.points import Plan
from compressit.running.estimate import Estimate, History, interpolated, unknown

ROUNDS = BASE + "  rounds: {uses: tiny.shrink, repeat: 2, feed: original}\nevaluate: [tiny.size]\n"
CALIBRATION = {"steps": [[16, 1.0, 0.01], [128, 1.0, 0.08], [128, 0.5, 0.04]], "forward": 0.001}


@pytest.fixture
def plan() -> Plan:
    return plan_of(ROUNDS)


def test_a_step_is_interpolated_between_the_measured_widths() -> None:
    steps = [[128, 1.0, 10.0], [128, 0.4, 4.0], [128, 0.1, 2.0], [16, 1.0, 1.0], [16, 0.4, 0.5]]
    assert interpolated(steps, 128, 1.0) == 10
    assert interpolated(steps, 128, 0.7) == pytest.approx(7)
    assert interpolated(steps, 128, 0.25) == pytest.approx(3)
    assert interpolated(steps, 128, 0.01) == 2, "no narrower than measured"
    assert interpolated(steps, 128, 2.0) == 10
    assert interpolated(steps, 256, 0.4) == 8, "a batch twice as large takes twice as long"
    assert interpolated(steps, 20, 0.4) == pytest.approx(0.5 * 20 / 16), "from the nearest batch size"


def test_a_stage_is_its_steps_and_its_teachers_passes(plan: Plan, tmp_path: Path) -> None:
    estimate = Estimate(History(tmp_path, 1), CALIBRATION)
    stage = job_of(plan, "base/seed0/rounds-01")
    assert stage.work == {"steps": 3, "batch_size": 128, "width": 0.5, "forwards": 40}
    assert estimate.seconds(stage) == pytest.approx(3 * 0.04 + 40 * 0.001)
    train = job_of(plan, "base/seed0/train")
    assert estimate.seconds(train) == pytest.approx(4 * 3 * 0.01)
    assert estimate.total([stage, train]) == pytest.approx(0.16 + 0.12)
    assert estimate.total(plan.jobs.values()) < 10


def test_an_evaluation_is_its_passes_once_they_are_measured(plan: Plan, tmp_path: Path) -> None:
    found = next(job for job in plan.jobs.values() if job.kind == "evaluate")
    job = replace(found, work={"steps": 0, "batch_size": 1, "width": 1.0, "forwards": 50})
    estimate = Estimate(History(tmp_path, 1), {"steps": [], "forward": 3.0})
    assert 150 <= estimate.seconds(job) < 152
    assert not estimate.guessed(job)
    assert Estimate(History(tmp_path, 1)).guessed(job)


def test_without_history_or_calibration_it_is_a_guess_above_zero(plan: Plan, tmp_path: Path) -> None:
    estimate = Estimate(History(tmp_path, 1))
    assert all(estimate.seconds(job) > 0 for job in plan.jobs.values())


def test_what_a_job_took_is_remembered_for_others_like_it(plan: Plan, tmp_path: Path) -> None:
    history = History(tmp_path, 2)
    train = job_of(plan, "base/seed0/train")
    assert unknown(list(plan.jobs.values()), history) == [t for t in plan.jobs.values() if t.kind == "stage"]
    history.add(train, 12.3456)
    history.save()
    again = History(tmp_path, 2)
    assert again.seconds(train) == 12.346
    assert Estimate(again, CALIBRATION).seconds(train) == 12.346
    assert train not in unknown(list(plan.jobs.values()), again)

    def known(text: str = ROUNDS, *settings: str, threads: int = 2) -> bool:
        job = next(t for t in plan_of(text, *settings).jobs.values() if t.stage == "train" and t.work)
        return History(tmp_path, threads).seconds(job) is not None

    assert known(ROUNDS, "seeds=[7]")
    assert known(ROUNDS, "data.with.labels=random")
    assert known(ROUNDS.replace("name: tiny", "name: other"))
    assert not known(ROUNDS, "stages.train.with.epochs=5")
    assert not known(ROUNDS, "data.with.limit=10")
    assert not known(ROUNDS, "model.with.hidden=[1000]"), "a larger model takes longer"
    assert not known(threads=1)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "soon"}', "{", "\x00"])
def test_a_damaged_history_is_an_empty_one(plan: Plan, tmp_path: Path, content: str) -> None:
    (tmp_path / "history.json").write_text(content)
    history = History(tmp_path, 1)
    train = job_of(plan, "base/seed0/train")
    assert history.seconds(train) is None
    history.add(train, 1)
    history.save()
    assert History(tmp_path, 1).seconds(train) == 1


def test_a_history_that_cannot_be_written_is_no_error(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    history = History(tmp_path / "store", 1)
    history.add(job_of(plan, "base/seed0/train"), 1)
    history.save()
