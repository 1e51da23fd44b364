"""What evaluators give, from the call to the store: long curves, gaps, a kill and a resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import BASE, PLUGINS, Lab, tiny_host

import compressit
from compressit.checkpoint import model as checkpoint
from compressit.contract.kinds import Dataset
from compressit.contract.records import Array, Curve
from compressit.host.plugins import Host
from compressit.planning.points import Plan
from compressit.running.estimate import Estimate, History, unknown
from compressit.running.loading import load_data
from compressit.store.objects import Artifact

RECORDING = PLUGINS.parent / "recording_plugins.py"


@pytest.fixture
def host() -> Host:
    host = tiny_host()
    host.load_file(RECORDING)
    return host


@pytest.fixture
def lab(tmp_path: Path, host: Host) -> Lab:
    return Lab(tmp_path, host, save_every=0.0)


def _plan(lab: Lab, evaluator: str) -> Plan:
    return lab.plan(BASE + f"evaluate: [{evaluator}]\n")


def _made(lab: Lab, plan: Plan) -> Artifact:
    job = next(job for job in plan.jobs.values() if job.kind == "evaluate")
    return lab.run(plan)[job.label]


@pytest.mark.parametrize(("evaluator", "kills"), [("rec.slow", ["4"]), ("rec.probes", ["1.1", "2.0", "2.1"])])
def test_a_killed_evaluation_goes_on_and_gives_the_same_bits(
    lab: Lab, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch, evaluator: str, kills: list[str]
) -> None:
    whole = _made(Lab(tmp_path / "whole", host), _plan(lab, evaluator))
    plan = _plan(lab, evaluator)
    key = next(job.key for job in plan.jobs.values() if job.kind == "evaluate")
    for kill in kills:
        monkeypatch.setenv("REC_KILL", kill)
        with pytest.raises(KeyboardInterrupt):
            lab.run(plan)
        assert lab.store.find(key) is None
        lab.runner = lab.new_runner()
    assert lab.store.has_progress(key)
    monkeypatch.delenv("REC_KILL")
    resumed = _made(lab, plan)
    assert resumed.metrics | {"drawn": 0} == whole.metrics | {"drawn": 0}
    if evaluator == "rec.slow":
        assert (whole.metrics["drawn"], resumed.metrics["drawn"]) == (10, 6)
    assert not lab.store.has_progress(key), "published: nothing is left"


def test_an_evaluators_work_is_estimated(lab: Lab, tmp_path: Path) -> None:
    (slow,) = (job for job in _plan(lab, "rec.slow").jobs.values() if job.kind == "evaluate")
    (dice,) = (job for job in _plan(lab, "rec.dice").jobs.values() if job.kind == "evaluate")
    history = History(tmp_path, 1)
    calibration = {"steps": [[40, 1.0, 2.0]], "forward": 0.0}
    assert Estimate(history, calibration).seconds(slow) == pytest.approx(10 * 2.0)
    assert Estimate(history, calibration).seconds(dice) < 1
    assert unknown([slow, dice], history) == [slow]


def test_of_a_long_curve_200_points_are_kept_and_gaps_are_told(
    lab: Lab, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(self: Any, model: Any, ctx: Any) -> dict[str, float]:
        for step in range(1001):
            ctx.log(step, long=step**2)
        ctx.log(0.5, gaps=1.0)
        ctx.log(1.5, gaps=math.inf)
        return {}

    dice: Any = host.find("rec.dice").plugin
    monkeypatch.setattr(dice, "evaluate", evaluate)
    monkeypatch.setattr(
        dice, "declares", lambda self, task: {"long": Curve("x", "y"), "gaps": Curve("x", "y")}
    )
    made = _made(lab, _plan(lab, "rec.dice"))
    points = made.curves["long"]
    assert len(points) == 200
    assert (points[0], points[-1]) == ((0, 0), (1000, 10**6))
    steps = np.array([step for step, _ in points])
    assert set(np.diff(steps)) == {5, 6}
    assert all(value == step**2 for step, value in points)
    assert made.curves["gaps"][0] == (0.5, 1.0)
    assert math.isnan(made.curves["gaps"][1][1])
    assert made.notes["not_finite"] == ["gaps"]


def test_what_is_saved_is_a_copy(lab: Lab, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(self: Any, model: Any, ctx: Any) -> dict[str, float]:
        values = np.ones(3)
        ctx.save("values", values)
        values *= 0
        return {}

    dice: Any = host.find("rec.dice").plugin
    monkeypatch.setattr(dice, "evaluate", evaluate)
    monkeypatch.setattr(dice, "declares", lambda self, task: {"values": Array()})
    monkeypatch.setattr("compressit.python.evaluation.installed", lambda: host)
    net = checkpoint.load(lab.run(lab.plan(BASE))["base/seed0/train"].model_file, host=host)
    dataset = host.create(Dataset, "tiny.data", {})
    data = load_data(dataset, host.task(dataset.task), lab.root, print)
    found = compressit.evaluate(net, data, "rec.dice")
    assert found == {}
    assert found.arrays["values"].tolist() == [1, 1, 1]
