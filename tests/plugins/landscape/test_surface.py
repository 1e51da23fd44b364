from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from compressit import CompressitError, StageContext
from compressit_plugins.landscape import surface as module
from compressit_plugins.landscape.surface import Surface
from compressit_plugins.landscape.weights import FlatWeights


class Small(nn.Module):
    """A bit of everything: a convolution, a batch norm, attention, two layers that share a weight."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        self.once, self.again = nn.Linear(2, 2), nn.Linear(2, 2)
        self.again.weight = self.once.weight
        self.last = nn.Linear(2, classes)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.first(x))).flatten(2).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0].mean(1)
        return self.last(self.drop(torch.relu(self.again(torch.tanh(self.once(x))))))


def _context(lab: Lab, **fields: Any) -> StageContext:
    return lab.context(data=lab.data(train=40), **fields)


def _taken(surface: Surface) -> tuple[Tensor, Tensor]:
    """All its examples together."""
    xs, ys = zip(*surface.examples, strict=True)
    return torch.cat(xs), torch.cat(ys)


def _reference(net: nn.Module, x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and Hessian by torch's own functions, of the net's parameters in their order."""
    net = net.double().eval()
    named = dict(net.named_parameters())

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in named.values()])
        values = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        return cross_entropy(torch.func.functional_call(net, values, (x,)), y)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        slope = torch.autograd.functional.jacobian(loss, at)
        return loss(at).detach(), slope, torch.autograd.functional.hessian(loss, at)


@pytest.mark.parametrize("together", [1, 10**9])
def test_derivatives_are_those_of_torch_whether_taken_together_or_in_parts(
    lab: Lab, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXAMPLES", 7)
    monkeypatch.setattr(module, "_ENTRIES", together)
    ctx = _context(lab)
    net = Small(ctx.data.classes).train()
    surface = Surface.of(net, ctx, 20, torch.float64)
    at = surface.start + 0.1 * torch.randn(len(surface), dtype=torch.float64)
    assert len(surface.examples) == 3
    value, slope, curvature = _reference(net, *_taken(surface), at)
    found = surface.value_and_gradient(at)
    assert surface.loss(at) == pytest.approx(float(value), abs=1e-12)
    assert float(found[0]) == pytest.approx(float(value), abs=1e-12)
    torch.testing.assert_close(found[1], slope)
    torch.testing.assert_close(surface.hessian(at), curvature)
    directions = torch.randn(5, len(surface), dtype=torch.float64)
    torch.testing.assert_close(surface.hvp(at, directions), directions @ curvature)


def test_softmax_regression_has_the_hessian_of_the_textbook(lab: Lab) -> None:
    """Of examples x with probabilities p: the mean of (diag(p) - p pᵀ) ⊗ x xᵀ."""
    ctx = _context(lab)
    classes = ctx.data.classes
    width = ctx.data.train.some(1).flatten(1).shape[1]
    net = nn.Sequential(nn.Flatten(), nn.Linear(width, classes, bias=False))
    surface = Surface.of(net, ctx, 30, torch.float64)
    x = _taken(surface)[0].flatten(1)
    p = (x @ net[1].weight.double().T).softmax(1).detach()
    of_logits = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    blocks = torch.einsum("nab,ni,nj->aibj", of_logits, x, x) / len(x)
    torch.testing.assert_close(surface.hessian(surface.start), blocks.reshape(classes * width, -1))


def test_pruned_weights_are_not_there(lab: Lab) -> None:
    ctx = _context(lab)
    net = lab.mlp()
    with torch.no_grad():
        next(net.parameters())[0] = 0
    whole = torch.cat([p.detach().flatten() for p in net.parameters()]).double()
    gone = next(net.parameters())[0].numel()
    surface = Surface.of(net, ctx, 20, torch.float64)
    assert surface.weights.pruned == gone
    assert len(surface) == len(whole) - gone == surface.weights.matrices().numel()
    full = _reference(net, *_taken(surface), whole)[2]
    torch.testing.assert_close(surface.hessian(surface.start), full[gone:, gone:])
    moved = surface.net_at(surface.start + 1)
    assert not next(moved.parameters())[0].any()
    assert torch.equal(surface.weights.flat(moved), surface.start + 1)
    fresh = _context(lab, fresh=True)
    assert len(Surface.of(net, fresh, 20)) == len(whole)


def test_frozen_parameters_are_not_there_unless_all_are(lab: Lab) -> None:
    ctx, net = _context(lab), lab.mlp()
    first, *others = net.parameters()
    first.requires_grad_(False)
    assert len(FlatWeights.of(net, ctx)) == sum(p.numel() for p in others)
    net.requires_grad_(False)
    assert len(FlatWeights.of(net, ctx)) == sum(p.numel() for p in net.parameters())


def test_it_leaves_the_net_alone_and_takes_the_same_examples_again(lab: Lab) -> None:
    ctx = _context(lab)
    net = Small(ctx.data.classes).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    surface = Surface.of(net, ctx, 20)
    surface.hvp(surface.start, torch.randn(2, len(surface)))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())
    again = Surface.of(net, ctx, 20)
    assert all(map(torch.equal, _taken(surface), _taken(again)))


def test_another_loss_and_the_outputs(lab: Lab) -> None:
    ctx, net = _context(lab), lab.mlp()
    plain = Surface.of(net, ctx, 20, torch.float64)
    linear = plain.with_loss(lambda outputs, y: outputs[:, 0] * 0 + y)
    assert not linear.hvp(plain.start, torch.ones(3, len(plain), dtype=torch.float64)).any()
    x, y = _taken(plain)
    torch.testing.assert_close(plain.outputs(plain.start), net.double()(x).detach())
    halved = plain.with_loss(lambda outputs, y: cross_entropy(outputs / 2, y, reduction="none"))
    assert float(halved.loss(plain.start)) == pytest.approx(cross_entropy(net(x) / 2, y).item())
    squared = plain.with_loss(lambda outputs, _: mse_loss(outputs, outputs * 0, reduction="none").mean(1))
    assert float(squared.loss(plain.start)) == pytest.approx((net(x) ** 2).mean().item())


def test_a_net_without_weights_is_refused(lab: Lab) -> None:
    with pytest.raises(CompressitError, match="no weights"):
        Surface.of(nn.Flatten(), _context(lab), 10)
