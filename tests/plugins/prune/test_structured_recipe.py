"""`prune.structured` in a plan: what is rehearsed before it, and what its key depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressit.checkpoint.model import load
from compressit.contract.measure import parameters
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import parse_recipe
from compressit.running.task import TaskRunner
from compressit.store.objects import Store

RECIPE = """\
version: 1
name: chain
data: {uses: data.synthetic}
model: {uses: model.convnet}
stages:
  train: {uses: train.supervised}
  first: {uses: FIRST}
  last: {uses: prune.structured, with: {keep: 0.5, target: parameters}}
"""


def planned(text: str) -> Plan:
    host = installed()
    return make_plan(parse_recipe(text, "recipe.yaml", host, None, (), lambda plugin: True, None), host)


@pytest.mark.parametrize(
    "first",
    [
        "prune.magnitude",
        "shrink.fresh, with: {width: 0.5}",
        "shrink.noise, with: {width: 0.5}",
        "distill.soft_labels, with: {width: 0.5}",
    ],
)
def test_behind_other_compressors_it_is_rehearsed_too(first: str, tmp_path: Path) -> None:
    plan = planned(RECIPE.replace("FIRST", first))
    runner = TaskRunner(Store(tmp_path), installed(), tmp_path)
    rehearsed = [plan.tasks[key] for key in plan.rehearsals.values()]
    assert [task.stage for task in rehearsed] == ["first", "last"]
    made = [
        runner.run(task, lambda event: None)
        for task in plan.tasks.values()
        if task.kind in ("init", "rehearse")
    ]
    given, kept = (parameters(load(artifact.model_file)) for artifact in made[1:])
    assert kept / given == pytest.approx(0.5, rel=0.02)
    assert given == parameters(load(made[0].model_file)) or "width" in first


def test_with_a_latency_as_the_target_the_key_is_that_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(target: str) -> dict[str, str]:
        text = RECIPE.replace("FIRST", "prune.magnitude").replace("target: parameters", f"target: {target}")
        return {task.label: task.key for task in planned(text).tasks.values()}

    here = {target: keys(target) for target in ("latency", "parameters")}
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    moved = {label for label, key in keys("latency").items() if key != here["latency"][label]}
    assert moved == {"base/seed0/last", "base/seed0/last rehearsal"}
    assert keys("parameters") == here["parameters"]
