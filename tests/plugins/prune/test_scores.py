"""Scores of single weights, each against a computation that shares no code with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from compressit.contract.context import StageContext
from compressit.errors import CompressitError
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig
from compressit_plugins.prune.masks import Pruning
from compressit_plugins.prune.measured import Calibration, gradient, snip, wanda
from compressit_plugins.prune.scores import by_synflow, lamp, synflow


class Convs(nn.Module):
    """A strided, padded, grouped convolution, a transposed one, a norm and a linear layer, for inputs of 1x8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        return self.head(F.relu(self.up(F.relu(self.grouped(x)))).mean((2, 3)))


def net_of(kind: str, lab: Lab) -> nn.Module:
    torch.manual_seed(0)
    return Convs() if kind == "convs" else lab.mlp(12, 9)


def weights_of(net: nn.Module) -> dict[str, nn.Parameter]:
    return dict(Pruning.of(net, 0.5).weights)


def calibrated(ctx: StageContext, count: int) -> list[tuple[Tensor, Tensor]]:
    """The calibration's batches of 32, drawn from its stream."""
    x, y = ctx.data.train.tensors()
    drawn = torch.randperm(len(y), generator=ctx.streams.generator("calibration"))[:count]
    return [(x[at], y[at]) for at in drawn.split(32)]


def test_lamp_is_a_weights_share_of_the_energy_that_is_not_smaller(lab: Lab) -> None:
    net = lab.mlp(5)
    with torch.no_grad():
        net.get_parameter("linear1.weight")[0, :3] = 0
    for name, score in lamp(weights_of(net)).items():
        flat = net.get_parameter(name).detach().double().flatten().tolist()
        by_hand = [w * w / sum(v * v for v in flat if abs(v) >= abs(w)) if w else 0.0 for w in flat]
        torch.testing.assert_close(score.flatten(), torch.tensor(by_hand, dtype=torch.float32))
        assert float(score.max()) == 1


@pytest.mark.parametrize("kind", ["mlp", "convs"])
def test_gradient_is_the_mean_over_minibatches_of_the_first_order_change(kind: str, lab: Lab) -> None:
    net, ctx = net_of(kind, lab), lab.context(data=lab.data(train=90))
    found = gradient(net, weights_of(net), Calibration(ctx, 70))
    net.eval()
    tensors = {name: value.detach() for name, value in (*net.named_parameters(), *net.named_buffers())}

    def loss(chosen: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, {**tensors, **chosen}, (x,)), y)

    chosen = {name: tensors[name] for name in found}
    expected = {name: torch.zeros_like(value) for name, value in chosen.items()}
    for x, y in calibrated(ctx, 70):
        for name, slope in grad(loss)(chosen, x, y).items():
            expected[name] += (chosen[name] * slope).abs() * len(y) / 70
    for name, score in found.items():
        torch.testing.assert_close(score, expected[name])


@pytest.mark.parametrize("kind", ["mlp", "convs"])
def test_snip_is_the_slope_of_the_loss_in_the_presence_of_a_weight(kind: str, lab: Lab) -> None:
    """Of the mask c that multiplies the weights, at 1 (equation 4 of the paper): one batch, with its statistics."""
    net, ctx = net_of(kind, lab).train(), lab.context(data=lab.data(train=90))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = snip(net, weights_of(net), Calibration(ctx, 32))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    ((x, y),) = calibrated(ctx, 32)

    present = {name: torch.ones_like(before[name], requires_grad=True) for name in found}
    masked = {name: before[name] * mask for name, mask in present.items()}
    F.cross_entropy(functional_call(net, {**before, **masked}, (x,)), y).backward()
    for name, mask in present.items():
        torch.testing.assert_close(found[name], mask.grad.abs(), rtol=1e-4, atol=1e-7)


def test_synflow_is_the_flow_through_each_weight(lab: Lab) -> None:
    """Closed form of a net of three layers: what comes in times |w| times what goes out."""
    net = lab.mlp(7, 5)
    found = synflow(net, weights_of(net), torch.zeros(1, 1, 8, 8))
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    w = [m.weight.detach().double().abs().numpy() for m in layers]
    b = [m.bias.detach().double().abs().numpy() for m in layers]
    comes = [np.ones(64)]
    for weight, bias in zip(w, b, strict=True):
        comes.append(weight @ comes[-1] + bias)
    goes = [np.ones(10)]
    for weight in reversed(w[1:]):
        goes.insert(0, goes[0] @ weight)
    flows = [g[:, None] * weight * c[None] for g, weight, c in zip(goes, w, comes[:-1], strict=True)]
    largest = max(flow.max() for flow in flows)
    for score, flow in zip(found.values(), flows, strict=True):
        torch.testing.assert_close(score, torch.from_numpy(flow / largest).float())


def test_synflow_at_once_is_a_hundred_prunings_of_what_is_left(lab: Lab) -> None:
    net, own = lab.mlp(10, 10).double(), lab.mlp(10, 10).double()
    pruning = Pruning.of(net, 0.9)
    masks = by_synflow(net, pruning, torch.zeros(1, 1, 8, 8))
    layers = [m for m in own.modules() if isinstance(m, nn.Linear)]
    total = sum(m.weight.numel() for m in layers)
    for step in range(1, 101):  # Tanaka et al. 2020, algorithm 1, with their schedule
        for m in layers:
            m.weight.requires_grad_(True).grad = None
        signal = torch.ones(1, 64, dtype=torch.float64)
        for m in layers:
            signal = signal @ m.weight.abs().T + m.bias.abs()
        signal.sum().backward()
        flat = torch.cat([(m.weight * m.weight.grad).abs().flatten().detach() for m in layers])
        flat[torch.cat([m.weight.detach().flatten() for m in layers]) == 0] = -1
        gone = flat.argsort(stable=True)[: total - round(total * 0.1 ** (step / 100))]
        mask = torch.zeros(total, dtype=torch.bool)
        mask[gone] = True
        with torch.no_grad():
            for m, part in zip(layers, mask.split([m.weight.numel() for m in layers]), strict=True):
                m.weight[part.view(m.weight.shape)] = 0
    for m, gone_here in zip(layers, masks.values(), strict=True):
        assert torch.equal(m.weight == 0, gone_here)
    assert sum(int(mask.sum()) for mask in masks.values()) == total - round(0.1 * total)


def places(layer: nn.Conv2d, x: Tensor, out: int, channel: int, i: int, j: int) -> list[float]:
    """All values that the weight [out, channel, i, j] is multiplied with, found by moving over the picture."""
    (step, _), (pad, _) = layer.stride, layer.padding
    of = out // (layer.out_channels // layer.groups) * (layer.in_channels // layer.groups) + channel
    padded = F.pad(x, (pad, pad, pad, pad))
    high, wide = padded.shape[2] - 2, padded.shape[3] - 2
    return [
        float(picture[of, top + i, left + j])
        for picture in padded
        for top in range(0, high, step)
        for left in range(0, wide, step)
    ]


def test_wanda_is_the_size_times_the_norm_of_what_the_weight_reads(lab: Lab) -> None:
    net, ctx = net_of("convs", lab).eval(), lab.context(data=lab.data(train=90))
    net.get_submodule("norm").running_mean.fill_(0.1)
    found = wanda(net, weights_of(net), Calibration(ctx, 40))
    x = torch.cat([inputs for inputs, _ in calibrated(ctx, 40)])
    with torch.no_grad():
        first = F.relu(net.norm(net.first(x)))
        up = F.relu(net.up(F.relu(net.grouped(first)))).mean((2, 3))
    for layer, given, name in ((net.first, x, "first"), (net.grouped, first, "grouped")):
        score = found[f"{name}.weight"]
        for at in np.ndindex(*score.shape):
            norm = np.linalg.norm(places(layer, given, *at))
            assert float(score[at]) == pytest.approx(abs(float(layer.weight[at])) * norm, rel=1e-4), (
                name,
                at,
            )
    torch.testing.assert_close(found["head.weight"], net.head.weight.detach().abs() * up.norm(dim=0))


def test_wanda_takes_as_many_of_every_output(lab: Lab) -> None:
    net, ctx = net_of("convs", lab), lab.context(data=lab.data(train=90))
    Magnitude(MagnitudeConfig(sparsity=0.6, score="wanda", calibration=64)).compress(net, ctx)
    up = net.up.weight.detach()  # (inputs, outputs of a group, 2, 2): by output of each of the two groups
    rows = {
        "first": net.first.weight.flatten(1), "grouped": net.grouped.weight.flatten(1),
        "head": net.head.weight, "up": torch.cat([up[:3], up[3:]], 1).transpose(0, 1).flatten(1),
    }  # fmt: skip
    for name, matrix in rows.items():
        gone = (matrix == 0).sum(1)
        assert int(gone.max() - gone.min()) <= 1, name
        assert int(gone.sum()) == round(0.6 * matrix.numel()), name


@pytest.mark.parametrize("score", ["lamp", "gradient", "snip", "synflow", "wanda"])
def test_what_is_zero_stays_so_and_the_number_is_exact(score: Any, lab: Lab) -> None:
    net, ctx = lab.mlp(12, 9), lab.context(data=lab.data(train=90))
    with torch.no_grad():
        net.get_parameter("linear1.weight")[:, ::2] = 0
    before = {name: weight == 0 for name, weight in weights_of(net).items()}
    Magnitude(MagnitudeConfig(sparsity=0.8, score=score)).compress(net, ctx)
    total = sum(mask.numel() for mask in before.values())
    zeros = {name: net.get_parameter(name) == 0 for name in before}
    assert all(bool(zeros[name][mask].all()) for name, mask in before.items())
    expected = (
        sum(round(0.8 * m.numel()) for m in before.values()) if score == "wanda" else round(0.8 * total)
    )
    assert sum(int(mask.sum()) for mask in zeros.values()) == expected == ctx.notes["zeros"]


@pytest.mark.parametrize(
    ("score", "net", "words"),
    [
        ("wanda", nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 4)), "1.weight_ih_l0"),
        ("wanda", nn.TransformerEncoderLayer(8, 2, 8), "in_proj_weight"),
    ],
)
def test_a_score_that_a_net_cannot_have_is_refused_before_training(
    score: Any, net: nn.Module, words: str, lab: Lab
) -> None:
    with pytest.raises(CompressitError, match=words):
        Magnitude(MagnitudeConfig(score=score)).dry_run(net, lab.context(data=lab.data(train=9)))
