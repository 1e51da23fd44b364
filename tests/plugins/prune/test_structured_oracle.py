"""A pruned net computes what the given one does with zeros for what was removed, or its widths stay, with the reason.

`test_zoo` judges the results of many nets, by values alone; here is what the comparison itself sees and says."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from structured_nets import Concat, Plain, built, example, images
from torch import Tensor, nn

from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.coupling import Group, coupled
from compressit_plugins.prune.faults import faulty, half
from compressit_plugins.prune.importance import magnitude
from compressit_plugins.prune.oracle import compare
from compressit_plugins.prune.surgery import Given


class Bright(nn.Module):
    """Chooses a layer by its input."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.a = nn.Linear(192, 24), nn.Linear(24, 32)
        self.easy, self.hard, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        f = F.relu(self.a(F.relu(self.before(x.flatten(1)))))
        return self.head(F.relu(self.easy(f) if x.mean() < 0.1 else self.hard(f)))


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
    assert compare(net, groups, list(map(half, groups)), inputs).largest < 1e-5
    second, first = groups
    members = [replace(m, roots=m.roots.flip(0)) if m.name == "conv2" else m for m in first.members]
    crossed = replace(first, members=members)
    gone = [torch.arange(8) < 4]
    assert compare(net, [crossed], gone, inputs).wrong
    reasons, left = faulty(
        net, Given.of(net, example()).empty, [crossed, second], [*gone, half(second)], inputs
    )
    assert set(reasons) == {"conv1"}
    assert left.largest < 1e-5


def test_the_comparison_leaves_the_model_as_it_was() -> None:
    net = built(Concat)
    before = copy.deepcopy(net)
    groups = groups_of(net)
    compare(net, groups, list(map(half, groups)), [images(1)])
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
    assert not compare(net, groups, list(map(half, groups)), [images(1)]).wrong


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
    assert compare(net, groups, list(map(half, groups)), [images(4)]).largest < 1e-6
