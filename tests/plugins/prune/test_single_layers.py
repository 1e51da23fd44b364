"""Ratios of single layers are met, and the others make up for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressit import CompressitError, NoEffectError, macs
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.prune.shares import divided, requested

EXAMPLE = torch.zeros(1, 20)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 10))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_width_keeps_its_ratio_and_the_whole_its_macs(scope: str, steps: int) -> None:
    net, before = _net(), macs(_net(), EXAMPLE)
    _, report = prune_channels(net, EXAMPLE, 0.5, target="macs", ratios={"0": 0.8}, scope=scope, steps=steps)  # type: ignore
    assert report.widths["0"] == (40, 32)
    first, second = 32, report.widths["2"][1]
    assert macs(net, EXAMPLE) == 20 * first + first * second + second * 10
    assert macs(net, EXAMPLE) / before == pytest.approx(0.5, rel=0.02)


def test_if_every_width_has_a_ratio_the_target_has_no_say() -> None:
    _, report = prune_channels(_net(), EXAMPLE, 0.5, target="macs", ratios={"*": 0.5, "2": 0.25})
    assert report.widths == {"0": (40, 20), "2": (60, 15)}, "of several globs the last counts"
    expected = (20 * 20 + 20 * 15 + 15 * 10) / (20 * 40 + 40 * 60 + 60 * 10)
    assert (report.requested, report.achieved) == (pytest.approx(expected), pytest.approx(expected))


def test_every_other_width_keeps_its_share_of_channels() -> None:
    _, report = prune_channels(_net(), EXAMPLE, 0.3, ratios={"2": 1.0})
    assert report.widths == {"0": (40, 12), "2": (60, 60)}
    assert report.skipped == {}


def test_what_the_others_cannot_make_up_for_is_an_error() -> None:
    with pytest.raises(CompressitError, match=r"0\.242 is left although the others keep their widths"):
        prune_channels(_net(), EXAMPLE, 0.5, target="macs", ratios={"0": 0.1})
    with pytest.raises(NoEffectError, match="'4' matches no layer whose width can be pruned"):
        prune_channels(_net(), EXAMPLE, 0.5, ratios={"4": 0.5})


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_weights_have_their_fraction_of_zeros_and_all_of_them_the_whole(scope: str) -> None:
    net = _net()
    masks = prune_smallest(net, 0.5, scope, sparsities={"0": 0.9})  # type: ignore[arg-type]
    zeros = {name: int((net.get_parameter(name) == 0).sum()) for name in masks}
    assert zeros["0.weight"] == 720
    assert sum(zeros.values()) == pytest.approx(1900, abs=2)
    if scope == "layer":
        assert zeros["2.weight"] / 2400 == pytest.approx(zeros["4.weight"] / 600, abs=0.002)
    kept = net.get_parameter("0.weight").detach().abs()
    assert float(kept[kept > 0].min()) >= float(
        _net()[0].weight.detach().abs().flatten().kthvalue(720).values
    )


def test_what_is_left_for_the_others() -> None:
    sizes = {"a": 800, "b": 2400, "c": 600}
    assert divided(sizes, 0.5) == [(["a", "b", "c"], 0.5)], "as before without fractions of single weights"
    assert divided(sizes, 0.5, "global", {"a": 0.9}) == [
        (["a"], 0.9),
        (["b", "c"], pytest.approx(1180 / 3000)),
    ]
    assert requested(sizes, 0.5, {"a": 0.9}) == 0.5
    assert requested(sizes, 0.5, {"*": 0.9, "c": 0.0}) == pytest.approx(0.9 * 3200 / 3800)
    for sparsities in ({"b": 0.9}, {"b": 0.0}):
        with pytest.raises(CompressitError, match="out of reach"):
            divided(sizes, 0.5, "global", sparsities)
    with pytest.raises(NoEffectError, match="'d' matches no weight"):
        divided(sizes, 0.5, "global", {"d": 0.5})
