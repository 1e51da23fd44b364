from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import nn

from compressit import StageContext, parse
from compressit_plugins.landscape.slice import Slice, SliceConfig
from compressit_plugins.landscape.sliced import random_direction, rise
from compressit_plugins.landscape.surface import Surface


def _sliced(model: nn.Module, ctx: StageContext, **options: Any) -> dict[str, float]:
    return dict(Slice(parse(SliceConfig, options)).evaluate(model, ctx))


def _softmax_regression(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_the_way_to_another_model_ends_there_and_bends_as_the_hessian_says(lab: Lab) -> None:
    data = lab.data(train=40)
    net, other = _softmax_regression(0), _softmax_regression(1)
    ctx = lab.context({"other": other}, data)
    found = _sliced(net, ctx, other="other", range=[-0.5, 1.5], points=161)
    losses = dict(ctx.curves["slice_loss"])
    x, y = data.train.tensors()
    for place, end in ((0.0, net), (1.0, other)):
        (at,) = (share for share in losses if abs(share - place) < 1e-9)
        expected = nn.functional.cross_entropy(end(x), y).item()
        assert losses[at] == pytest.approx(expected, rel=1e-5)
    surface = Surface.of(net, lab.context(data=data), 40, torch.float64)
    way = surface.weights.flat(other, torch.float64) - surface.start
    for name, at in (("slice_bend", surface.start), ("slice_other_bend", surface.start + way)):
        curvature = float(surface.hvp(at, way[None])[0] @ way)
        assert found[name] == pytest.approx(curvature, rel=0.02), name
    assert set(ctx.curves) == {f"slice_{n}" for n in ("loss", "accuracy", "test_loss", "test_accuracy")}


def test_the_largest_step_up_is_measured_on_the_way_down() -> None:
    assert rise(np.array([4.0, 3.0, 3.5, 0.0])) == pytest.approx(0.5 / 4)
    assert rise(np.array([0.0, 1.0, 4.0])) == 0, "towards the end with less"
    assert rise(np.array([2.0, 5.0, 2.0])) is None


def test_numbers_are_given_only_where_the_models_are_among_the_places(lab: Lab) -> None:
    ctx = lab.context({"other": lab.mlp(seed=1)}, lab.data(train=40))
    whole = _sliced(lab.mlp(), ctx, other="other", range=[-1, 2], points=25)
    assert whole.keys() == {"slice_bend", "slice_other_bend", "slice_rise"}
    assert _sliced(lab.mlp(), ctx, other="other", range=[0, 1], points=4).keys() == {"slice_rise"}
    assert _sliced(lab.mlp(), ctx, other="other", range=[-0.3, 1], points=4).keys() == set()
    assert _sliced(lab.mlp(), ctx).keys() == {"slice_bend"}
    assert _sliced(lab.mlp(8), ctx, other="other") == {}, "another shape"


def test_random_directions_have_the_norms_of_filters_and_leave_pruned_weights_alone(lab: Lab) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 10))
    with torch.no_grad():
        net[0].weight[1] *= 100
        net[0].weight[0, 0, 0] = 0  # pruned
        net[0].weight[2] = 0
    found = random_direction(net, lab.context(data=lab.data(train=20)), 0)
    for name in ("0.weight", "3.weight"):
        weight = net.get_parameter(name)
        torch.testing.assert_close(found[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
    assert not found["0.weight"][0, 0, 0].any()
    assert found["0.weight"][0, 0, 1:].all()
    assert not found["0.weight"][2].any()
    assert not any(found[name].any() for name in ("0.bias", "1.weight", "1.bias", "3.bias"))
    again = random_direction(net, lab.context(data=lab.data(train=20)), 0)
    other = random_direction(net, lab.context(data=lab.data(train=20)), 1)
    assert torch.equal(found["0.weight"], again["0.weight"])
    assert not torch.equal(found["0.weight"], other["0.weight"])


def test_a_random_line_is_the_same_when_a_scale_moves_to_the_next_layer(lab: Lab) -> None:
    lines: list[list[float]] = []
    for factor in (1.0, 7.0):
        net = lab.mlp()
        first, last = (module for module in net if isinstance(module, nn.Linear))
        with torch.no_grad():
            first.bias.zero_()
            first.weight *= factor
            last.weight /= factor
        ctx = lab.context(data=lab.data(train=40))
        _sliced(net, ctx, points=5)
        lines.append([loss for _, loss in ctx.curves["slice_loss"]])
    assert lines[0] == pytest.approx(lines[1], rel=1e-4)
    assert len(set(lines[0])) == 5


def test_a_plane_has_both_models_in_its_corners(lab: Lab) -> None:
    nets = [_softmax_regression(seed) for seed in range(3)]
    data = lab.data(train=40)
    ctx = lab.context({"one": nets[1], "two": nets[2]}, data)
    assert _sliced(nets[0], ctx, other=["one", "two"], directions=2, range=[0, 1], points=3) == {}
    x, y = data.train.tensors()
    losses = [nn.functional.cross_entropy(net(x), y).item() for net in nets]
    plane = ctx.arrays["slice_loss"]
    assert [plane[0, 0], plane[0, 2], plane[2, 0]] == pytest.approx(losses, rel=1e-5), (
        "the first runs along a row"
    )
    assert ctx.arrays["slice_places"].tolist() == [0, 0.5, 1]
    assert ctx.pictures["slice"].startswith(b"\x89PNG")
    mixed = lab.context({"one": nets[1]}, data)
    _sliced(nets[0], mixed, other="one", directions=2, range=[0, 1], points=3)
    assert mixed.arrays["slice_loss"][0, 2] == pytest.approx(losses[1], rel=1e-5)
    drawn = random_direction(nets[0], mixed, 1)
    with torch.no_grad():
        for name, step in drawn.items():
            nets[0].get_parameter(name).add_(step)
    moved = nn.functional.cross_entropy(nets[0](x), y).item()
    assert mixed.arrays["slice_loss"][2, 0] == pytest.approx(moved, rel=1e-5), "one random step"


def test_options_that_say_nothing_are_mistakes() -> None:
    with pytest.raises(ValidationError, match="ascend"):
        parse(SliceConfig, {"range": [1, 1]})
    with pytest.raises(ValidationError, match="directions: 2"):
        parse(SliceConfig, {"other": ["a", "b"]})
