"""`prune.structured` in a plan: what is tried before it, and what its key depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressit.checkpoint.model import load
from compressit.contract.measure import parameters
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import parse_recipe
from compressit.running.job import JobRunner
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
def test_behind_other_compressors_it_is_tried_too(first: str, tmp_path: Path) -> None:
    plan = planned(RECIPE.replace("FIRST", first))
    runner = JobRunner(Store(tmp_path), installed(), tmp_path)
    tried = [plan.jobs[key] for key in plan.dry_runs.values()]
    assert [job.stage for job in tried] == ["first", "last"]
    made = [
        runner.run(job, lambda event: None) for job in plan.jobs.values() if job.kind in ("init", "dry_run")
    ]
    given, kept = (parameters(load(artifact.model_file)) for artifact in made[1:])
    assert kept / given == pytest.approx(0.5, rel=0.02)
    assert given == parameters(load(made[0].model_file)) or "width" in first


def test_with_a_latency_as_the_target_the_key_is_that_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(target: str) -> dict[str, str]:
        text = RECIPE.replace("FIRST", "prune.magnitude").replace("target: parameters", f"target: {target}")
        return {job.label: job.key for job in planned(text).jobs.values()}

    here = {target: keys(target) for target in ("latency", "parameters")}
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    moved = {label for label, key in keys("latency").items() if key != here["latency"][label]}
    assert moved == {"base/seed0/last", "base/seed0/last dry run"}
    assert keys("parameters") == here["parameters"]
