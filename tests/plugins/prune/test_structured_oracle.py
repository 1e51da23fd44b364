"""A pruned net computes what the given one does with zeros for what was removed, or its widths stay, with the reason.

The comparison here finds kept channels by their values and knows nothing of how they were chosen.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from structured_nets import Concat, Grouped, Plain, Residual, Squeeze, built, example, images
from torch import Tensor, nn

from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.coupling import Group, coupled
from compressit_plugins.prune.faults import faulty, halves
from compressit_plugins.prune.importance import magnitude
from compressit_plugins.prune.oracle import compare
from compressit_plugins.prune.surgery import Given


def kept(full: Tensor, small: Tensor) -> list[list[int]]:
    found: list[list[int]] = []
    for d in range(full.ndim):
        rows, left = (t.movedim(d, 0).reshape(t.shape[d], -1) for t in (full, small))
        found.append([next(i for i, row in enumerate(rows) if torch.isin(r, row).all()) for r in left])
    return found


@torch.no_grad()
def gap(given: nn.Module, small: nn.Module, x: Tensor) -> float:
    """The largest difference, of the largest output, from `given` with zeros where `small` lost something."""
    masked = copy.deepcopy(given).eval()
    for name, value in masked.state_dict(keep_vars=True).items():
        left = small.state_dict()[name]
        if value.shape != left.shape:
            index = torch.meshgrid(*map(torch.tensor, kept(value.detach(), left)), indexing="ij")
            value.data.fill_(1.0 if name.endswith("running_var") else 0.0)
            value.data[index] = left.detach()
    wanted = masked(x)
    return float((wanted - small.eval()(x)).abs().max() / wanted.abs().max())


class OptionA(nn.Module):
    """A CIFAR ResNet whose shortcut is padded with zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.outer, self.outer_norm = nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = self.outer_norm(self.outer(F.relu(self.inner_norm(self.inner(x)))))
        return self.head(F.relu(x + short).mean((2, 3)))


class LastFlat(Plain):
    """Features flattened as height, width, channels."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 2).permute(0, 2, 3, 1).flatten(1))


class Shuffled(Plain):
    """Channels shuffled between two layers, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(F.relu(self.last(x)).mean((2, 3)))


class Flipped(Shuffled):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(self.features(x).flip(1))).mean((2, 3)))


class Rolled(Shuffled):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(self.features(x).roll(3, 1))).mean((2, 3)))


class Stacked(Shuffled):
    """Two maps stacked channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(24, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(F.relu(self.last(torch.stack([x, x.sigmoid()], 2).flatten(1, 2))).mean((2, 3)))


class Halved(nn.Module):
    """Two halves of a layer's output go to two layers; the second first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.first(x)).chunk(2, 1)
        second = self.two(b)
        return self.head(torch.cat([self.one(a), second], 1).relu().mean((2, 3)))


class C2f(nn.Module):
    """A block of YOLOv8: one half goes on through a layer, all three are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cv1 = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1)
        self.m, self.cv2, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(24, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = list(F.silu(self.cv1(F.silu(self.stem(x)))).chunk(2, 1))
        y.append(F.silu(self.m(y[-1])))
        return self.head(F.silu(self.cv2(torch.cat(y, 1))).mean((2, 3)))


class Heads(nn.Module):
    """Attention with a layer for each of query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scale = 2, 8**-0.5
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.q, self.k, self.v = (nn.Linear(12, 16) for _ in range(3))
        self.out, self.head = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = (q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
        return self.head(self.out(a.transpose(1, 2).reshape(b, n, -1)).mean(1))


class HeadsOfOneSize(Heads):
    """The number of heads is what is left when a head's size is known."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, -1, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = (q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
        return self.head(self.out(a.transpose(1, 2).reshape(b, n, -1)).mean(1))


class Gate(Plain):
    """A map of one channel is multiplied with all channels of another."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Conv2d(12, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        x = super().features(x)
        return self.mask(x).sigmoid() * x


class Up(Plain):
    """A transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(12, 10, 2, stride=2)
        self.head = nn.Linear(40, 5)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.up(super().features(x)))


class Bright(nn.Module):
    """Chooses a layer by its input."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.a = nn.Linear(192, 24), nn.Linear(24, 32)
        self.easy, self.hard, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        f = F.relu(self.a(F.relu(self.before(x.flatten(1)))))
        return self.head(F.relu(self.easy(f) if x.mean() < 0.1 else self.hard(f)))


NETS = [
    Plain, Residual, Concat, Grouped, Squeeze, OptionA, LastFlat, Shuffled, Flipped, Rolled, Stacked, Halved, C2f,
    Heads, HeadsOfOneSize, Gate, Up, Bright,
]  # fmt: skip


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("cls", NETS)
def test_a_pruned_net_is_the_given_one_with_zeros_or_stays(cls: type[nn.Module], scope: str) -> None:
    given = built(cls).eval()
    small = copy.deepcopy(given)
    _, report = prune_channels(small, example(), 0.5, scope=scope)  # type: ignore[arg-type]
    assert any(after < before for before, after in report.widths.values())
    assert report.gap < 1e-5
    assert gap(given, small, images()) < 1e-5


def test_a_layer_that_the_trace_did_not_take_is_named_and_what_it_may_read_stays() -> None:
    net = built(Bright)
    _, report = prune_channels(net, example(), 0.5)
    assert report.widths == {"before": (24, 12)}
    assert set(report.skipped) == {"a", "easy"}
    assert all("'hard'" in reason for reason in report.skipped.values())
    net(images())  # bright ones: the other layer


def groups_of(net: nn.Module) -> list[Group]:
    return coupled(net.eval(), example(), magnitude(net), (), 60)[0]


def test_the_comparison_sees_a_channel_in_the_wrong_place_whatever_the_weights() -> None:
    net = built(Plain).eval()
    with torch.no_grad():
        net.head.weight.zero_()  # all outputs are equal, before and after
    groups, inputs = groups_of(net), [images(1)]
    assert compare(net, groups, halves(groups), inputs).largest < 1e-5
    second, first = groups
    members = [replace(m, roots=m.roots.flip(0)) if m.name == "conv2" else m for m in first.members]
    crossed = replace(first, members=members)
    gone = [torch.arange(8) < 4]
    assert compare(net, [crossed], gone, inputs).wrong
    reasons, left = faulty(
        net, Given.of(net, example()).empty, [crossed, second], [*gone, *halves([second])], inputs
    )
    assert set(reasons) == {"conv1"}
    assert left.largest < 1e-5


def test_the_comparison_leaves_the_model_as_it_was() -> None:
    net = built(Concat)
    before = copy.deepcopy(net)
    groups = groups_of(net)
    compare(net, groups, halves(groups), [images(1)])
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.state_dict().items())


def test_a_net_that_random_weights_lead_nowhere_is_compared_by_its_own() -> None:
    class Logs(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor(5.0))

        def features(self, x: Tensor) -> Tensor:
            return (super().features(x) + self.shift - 3).log()  # only its own shift is large enough

    net = built(Logs).eval()
    _, report = prune_channels(copy.deepcopy(net), example(), 0.5, ignore=["conv2"])
    assert report.gap < 1e-5
    groups = [group for group in groups_of(net) if group.name == "conv1"]
    assert not compare(net, groups, halves(groups), [images(1)]).wrong


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_compared_as_exactly(dtype: torch.dtype) -> None:
    net = built(Plain).to(dtype)
    _, report = prune_channels(net, example().to(dtype), 0.5)
    assert report.widths == {"conv1": (8, 4), "conv2": (12, 6)}
    assert report.gap < 1e-5
    assert net.conv1.weight.dtype == dtype


def test_what_many_layers_round_differently_is_no_fault() -> None:
    class Rounding(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return (super().forward(x) * 1e5).sin()  # as far apart as hundreds of layers leave it

    groups = groups_of(net := built(Rounding))
    assert compare(net, groups, halves(groups), [images(4)]).largest < 1e-6
