"""The unit in which radii are counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressit.contract.init_options import InitConfig
from compressit.contract.initial import initialise
from compressit.contract.zeros import pruned_zeros
from compressit.errors import CompressitError
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.subspace.norms import glorot_radius, radius_of


def test_the_glorot_radius_is_the_norm_that_glorots_weights_have() -> None:
    net = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    assert glorot_radius(net, {}) ** 2 == pytest.approx(318.699 + 200 + 19.048, rel=1e-5)
    torch.manual_seed(0)
    initialise(net, InitConfig(scheme="xavier"))
    norm = torch.cat([weight.detach().flatten() for weight in net.parameters()]).norm()
    assert float(norm) == pytest.approx(glorot_radius(net, {}), rel=0.01)
    assert radius_of(net, "initial", {}) == pytest.approx(float(norm))
    assert radius_of(net, 2.0, {}) == pytest.approx(2 * 23.1894, rel=1e-4)


def test_a_kernel_counts_at_each_of_its_positions_and_what_was_pruned_not_at_all() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    nn.init.xavier_normal_(net[0].weight)
    assert glorot_radius(net, {}) ** 2 == pytest.approx(8 * 16 * 9 * 2 / ((8 + 16) * 9))
    assert float(net[0].weight.detach().norm()) == pytest.approx(glorot_radius(net, {}), rel=0.1)
    prune_smallest(net, 0.75)
    assert glorot_radius(net, pruned_zeros(net)) == pytest.approx(glorot_radius(net, {}) / 2)


def test_what_has_no_radius_is_told() -> None:
    norm = nn.LayerNorm(4)
    with pytest.raises(CompressitError, match="no Glorot radius"):
        radius_of(norm, 1.0, {})
    assert radius_of(norm, "initial", {}) == 2
    nn.init.zeros_(norm.weight)
    with pytest.raises(CompressitError, match="all weights are zero"):
        radius_of(norm, "initial", {})
    with pytest.raises(CompressitError, match="nothing to train"):
        radius_of(norm.requires_grad_(False), "initial", {})
