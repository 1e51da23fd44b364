"""`train.batch_norm`: the statistics are those of the training inputs, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from plugin_lab import Lab
from torch import nn
from torch.optim.swa_utils import update_bn

from compressit import load_recipe
from compressit.errors import NoEffectError
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.running.job import JobRunner
from compressit.store.objects import Store
from compressit_plugins.train.batch_norm import BatchNorm, BatchNormConfig


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 8),
        nn.BatchNorm1d(8),
    ]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(8, 10)).train()


def test_the_statistics_are_torchs_own_over_the_first_batches(lab: Lab, device: str) -> None:
    ctx = lab.context(data=lab.data(device), device=device)
    model = net().to(device)
    expected, before = copy.deepcopy(model), copy.deepcopy(model)
    BatchNorm(BatchNormConfig(examples=96, batch_size=32)).train(model, ctx)
    batches = [x for x, _ in ctx.data.train.batches(32, 0)][:3]
    update_bn(batches, expected)
    for name, value in model.state_dict().items():
        wanted = expected if "running" in name or "tracked" in name else before
        torch.testing.assert_close(value, wanted.state_dict()[name], rtol=0, atol=0, msg=name)
    assert ctx.notes["recalibrated"] == 3
    assert not torch.equal(model[1].running_mean, before[1].running_mean)
    assert model[1].momentum == 0.1
    assert model[1].training


def test_a_net_without_batch_norms_is_refused_by_name(lab: Lab) -> None:
    with pytest.raises(NoEffectError, match=r"\w+ has no batch norm"):
        BatchNorm(BatchNormConfig()).train(lab.mlp(8), lab.context(data=lab.data()))


def test_in_a_run_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\nname: idle\ndata: {uses: data.synthetic, with: {train: 64, test: 32}}\nmodel: {uses: model.mlp}\n"
        "stages:\n  train: {uses: train.supervised, with: {epochs: 1}}\n  norms: {uses: train.batch_norm}\n"
    )
    plan = make_plan(load_recipe(recipe), installed())
    (tried,) = (plan.jobs[key] for key in plan.dry_runs.values())
    assert tried.stage == "norms"
    runner = JobRunner(Store(tmp_path / "store"), installed(), tmp_path)
    runner.run(plan.jobs[tried.inputs["previous"]], lambda event: None)
    assert plan.jobs[tried.inputs["previous"]].kind == "init", "nothing was trained for it"
    with pytest.raises(NoEffectError, match="no batch norm"):
        runner.run(tried, lambda event: None)
