"""`train.batch_norm`: the statistics are those of the training inputs, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from plugin_lab import Lab
from torch import nn
from torch.optim.swa_utils import update_bn

from compressit.errors import NoEffectError
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
