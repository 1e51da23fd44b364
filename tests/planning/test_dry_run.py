"""What is tried on fresh weights before anything is trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny import BASE, Bench, Lab, job_of, plan_of, same, tensors, tiny_host

from compressit.checkpoint.model import load
from compressit.errors import CompressitError
from compressit.running.session import run_plan
from compressit.running.shapes import refill
from compressit.store.objects import Store

CUTS = (
    BASE
    + """\
  cut: {uses: tiny.cut, with: {units: 8}}
  again: {uses: tiny.train, needs: cut}
  less: {uses: tiny.cut, needs: again, repeat: 2, feed: original, with: {units: 5}}
evaluate: [tiny.size]
"""
)


def _dry_runs(text: str, *settings: str) -> list[str]:
    plan = plan_of(text, *settings)
    assert {plan.jobs[key].kind for key in plan.dry_runs.values()} <= {"dry_run"}
    return [plan.jobs[key].label for key in plan.dry_runs.values()]


def test_stages_that_can_be_tried_are_before_everything_else() -> None:
    labels = [f"base/seed0/{name} dry run" for name in ("cut", "less-01", "less-02")]
    assert _dry_runs(CUTS) == labels
    assert [t.label for t in plan_of(CUTS).pending({})][:4] == ["base/seed0/init", *labels]
    assert _dry_runs(BASE + "  prune: {uses: tiny.prune}\n") == [], "it has no dry run"


def test_only_the_first_seed_is_tried() -> None:
    assert all("seed3" in label for label in _dry_runs(CUTS, "seeds=[3,4]"))


def test_behind_a_compressor_that_does_not_say_its_shapes_nothing_is_tried() -> None:
    text = BASE + "  prune: {uses: tiny.prune}\n  cut: {uses: tiny.cut, with: {units: 6}}\n"
    assert _dry_runs(text) == []


def test_training_options_make_no_new_dry_run_and_its_own_options_do() -> None:
    plan = plan_of(CUTS)
    same = plan_of(CUTS, "stages.train.with.epochs=9", "stages.again.with.epochs=9")
    other = plan_of(CUTS, "stages.cut.with.units=7")
    assert set(plan.dry_runs.values()) == set(same.dry_runs.values())
    assert not set(plan.dry_runs.values()) & set(other.dry_runs.values())


def test_a_stage_that_is_there_needs_no_dry_run() -> None:
    plan = plan_of(CUTS)
    stages = {key: True for key, job in plan.jobs.items() if job.kind != "dry_run"}
    assert plan.pending(stages) == []
    cut = job_of(plan, "base/seed0/cut")
    del stages[cut.key]
    assert [t.label for t in plan.pending(stages)] == ["base/seed0/cut dry run", "base/seed0/cut"]


def test_a_dry_run_has_the_shapes_the_stage_will_give(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan = lab.plan(CUTS)
    lab.run(plan)
    for name in ("cut", "less-01"):
        made = tensors(lab.store, plan, f"base/seed0/{name}")
        dry = lab.store.find(plan.dry_runs[job_of(plan, f"base/seed0/{name}").key])
        assert dry is not None
        assert {n: t.shape for n, t in load_file(dry.model_file).items()} == {
            n: t.shape for n, t in made.items()
        }


def test_a_dry_run_keeps_no_weights_and_the_next_one_has_some(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan = lab.plan(CUTS, "model.with.hidden=[200,200]", "stages.cut.with.units=150")
    lab.run(plan)
    key = job_of(plan, "base/seed0/cut").key
    dry, result = lab.store.find(plan.dry_runs[key]), lab.store.find(key)
    assert dry is not None
    assert result is not None
    assert dry.model_file.stat().st_size < result.model_file.stat().st_size / 8
    empty, whole = (load(file.model_file, host=lab.host).state_dict() for file in (dry, result))
    assert {n: t.shape for n, t in empty.items()} == {n: t.shape for n, t in whole.items()}
    assert not any(t.any() for t in empty.values())
    model = load(dry.model_file, host=lab.host)
    refill(model, torch.Generator().manual_seed(0))
    assert all(p.any() for p in model.parameters())
    x = torch.rand(64, 1, 2, 3)
    assert 0.01 < model(x).std() < 10
    twin = load(dry.model_file, host=lab.host)
    refill(twin, torch.Generator().manual_seed(0))
    assert same(twin.state_dict(), model.state_dict())


def test_a_dry_run_that_cannot_say_its_shapes_ends_the_chain_not_the_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan = lab.plan(CUTS, "stages.cut.with.tells=false")
    lab.run(plan)
    dry = lab.store.find(plan.dry_runs[job_of(plan, "base/seed0/less-02").key])
    assert dry is not None
    assert not dry.model_file.exists()
    assert lab.store.find(job_of(plan, "base/seed0/less-02").key) is not None


def test_what_can_never_work_is_said_before_anything_is_trained(tmp_path: Path, bench: Bench) -> None:
    plan = plan_of(CUTS, "stages.less.with.units=8")
    with pytest.raises(CompressitError) as caught:
        run_plan(
            plan, tiny_host(), folder=tmp_path / "run", store=tmp_path / "store",
            console=Console(file=io.StringIO()),
        )  # fmt: skip
    text = str(caught.value)
    assert "base/seed0/less-01 dry run: 8 of 8 units cannot be kept" in text
    assert text.endswith("nothing was trained")
    assert caught.value.exit_code == 2
    assert bench.ran == ["base/seed0/init", "base/seed0/cut dry run"]
    assert Store(tmp_path / "store").find(job_of(plan, "base/seed0/train").key) is None


def test_a_run_tries_once_and_then_trains(tmp_path: Path, bench: Bench) -> None:
    options = {
        "folder": tmp_path / "run",
        "store": tmp_path / "store",
        "console": Console(file=io.StringIO()),
    }
    run_plan(plan_of(CUTS), tiny_host(), **options)
    tried = [label for label in bench.ran if "dry run" in label]
    assert len(tried) == len(set(tried)) == 3
    assert bench.ran.index("base/seed0/train") > max(map(bench.ran.index, tried))
    bench.ran.clear()
    run_plan(plan_of(CUTS, "stages.again.with.epochs=1"), tiny_host(), **options)
    assert not [label for label in bench.ran if "dry run" in label]
