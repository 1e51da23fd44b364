"""Zeros that pruning made stay zero in training; zeros that are where training begins do not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.context import StageContext
from compressit.contract.fit import fit
from compressit.contract.fit_options import FitConfig
from compressit.contract.zeros import from_pruning, keeping_zeros

Make = Callable[..., StageContext]
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"name": "adam", "lr": 0.01, "weight_decay": 0.01},
    {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
]


class Block(nn.Module):
    """Everything that may start at zero: a token, a layer, a scale, a norm's weight and bias, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.zeroed, self.last = nn.Linear(18, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.norm, self.scale = nn.LayerNorm(8), nn.Parameter(torch.zeros(8))
        self.token = nn.Parameter(torch.zeros(1, 8))
        for start in (self.zeroed.weight, self.norm.weight, self.first.bias, self.zeroed.bias):
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)) + self.token
        return self.last(hidden + self.zeroed(hidden) + self.norm(hidden) + self.scale * hidden)


def pruned(device: str = "cpu") -> Block:
    """Half of the first layer's weights are zero, and one of the last layer's."""
    torch.manual_seed(0)
    net = Block().to(device)
    net.first.weight.data.view(-1)[::2] = 0
    net.last.weight.data[1, 2] = 0
    return net


def trained(net: nn.Module, ctx: StageContext, optimizer: dict[str, Any], keep: bool = True) -> nn.Module:
    options = FitConfig.model_validate({"epochs": 3, "batch_size": 8, "clip": 0.5, "optimizer": optimizer})
    if not keep:
        return fit(net, ctx, options, ctx.data.train, F.cross_entropy)
    with keeping_zeros(net, ctx):
        return fit(net, ctx, options, ctx.data.train, F.cross_entropy)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o["name"])
def test_pruned_weights_stay_zero_and_everything_else_learns(
    make_context: Make, optimizer: dict[str, Any], device: str
) -> None:
    net = trained(pruned(device), make_context(device=device), optimizer)
    before = pruned(device)
    masks = {"first.weight": before.first.weight == 0, "last.weight": before.last.weight == 0}
    for name, value in net.named_parameters():
        mask = masks.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert not value[mask].any(), name
        assert (value[~mask] != before.get_parameter(name)[~mask]).any(), name
        assert not value._post_accumulate_grad_hooks
    assert float((net.get_parameter("zeroed.weight") != 0).double().mean()) == 1.0


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o["name"])
def test_it_is_projected_descent(make_context: Make, optimizer: dict[str, Any]) -> None:
    """The same as a net without the pruned weights: their inputs multiplied by a fixed mask of zeros."""

    class Masked(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return F.linear(x, self.weight * self.mask, self.bias)

    ours, theirs = pruned(), pruned()
    for name in ("first", "last"):
        layer = getattr(theirs, name)
        layer.__class__ = Masked
        layer.mask = (layer.weight != 0).float()
    trained(ours, make_context(), optimizer)
    trained(theirs, make_context(), optimizer, keep=False)
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value, theirs.get_parameter(name))


def test_its_number_is_given(make_context: Make) -> None:
    with keeping_zeros(pruned(), make_context()) as zeros:
        assert zeros == 18 * 8 // 2 + 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_builders_zeros_are_trained(make_context: Make, fresh: bool) -> None:
    """An identity convolution has other values beside its zeros: only what was done to the model tells."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(36, 4))
    nn.init.dirac_(net[0].weight)
    ctx = make_context(fresh=fresh)
    with keeping_zeros(net, ctx) as zeros:
        fit(net, ctx, FitConfig(epochs=1, batch_size=8), ctx.data.train, F.cross_entropy)
    assert zeros == (0 if fresh else 2 * 4 * 9 - 2)
    assert int(net[0].weight.count_nonzero()) == (72 if fresh else 2)


def test_masks_that_a_plugin_made_count_too(make_context: Make) -> None:
    """A layer that was pruned as a whole, in a model that is otherwise fresh."""
    net = pruned()
    ctx = make_context(fresh=True)
    with keeping_zeros(net, ctx, {"zeroed.weight": net.zeroed.weight == 0}) as zeros:
        fit(net, ctx, FitConfig(epochs=1, batch_size=8), ctx.data.train, F.cross_entropy)
    assert zeros == 64
    assert not net.zeroed.weight.any()
    assert net.first.weight.all()


def test_a_dense_net_and_frozen_weights_get_no_hook(make_context: Make) -> None:
    dense, frozen = Block(), pruned().requires_grad_(False)
    for net in (dense, frozen):
        with keeping_zeros(net, make_context()) as zeros:
            assert not any(parameter._post_accumulate_grad_hooks for parameter in net.parameters())
        assert zeros == 0


def test_hooks_are_gone_after_an_error(make_context: Make) -> None:
    net = pruned()
    with contextlib.suppress(RuntimeError), keeping_zeros(net, make_context()):
        assert net.first.weight._post_accumulate_grad_hooks
        raise RuntimeError
    assert not net.first.weight._post_accumulate_grad_hooks


@pytest.mark.parametrize(
    ("shape", "zeros", "counts"),
    [
        ((3, 4), 5, True),
        ((3, 4), 11, True),
        ((1, 3, 4), 5, True),  # a position table, which `also` selects
        ((3, 4), 12, False),  # as a whole: a layer that starts at zero
        ((3, 4), 0, False),
        ((12,), 5, False),  # a bias, a norm
    ],
)
def test_which_zeros_count(shape: tuple[int, ...], zeros: int, counts: bool) -> None:
    assert from_pruning(shape, zeros) is counts
