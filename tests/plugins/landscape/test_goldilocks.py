from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import nn
from torch.nn.init import xavier_uniform_

from compressit import StageContext
from compressit.contract.compute import Compute
from compressit_plugins.landscape.goldilocks import Goldilocks, GoldilocksConfig
from compressit_plugins.landscape.plane import glorot_radius, in_plane, logit_scale, plane
from compressit_plugins.landscape.surface import Surface


def _context(lab: Lab, **fields: Any) -> StageContext:
    return lab.context(data=lab.data(train=60), compute=Compute(precision="fp64"), **fields)


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).double()


def _measured(net: nn.Module, ctx: StageContext, **options: Any) -> Mapping[str, float]:
    return Goldilocks(GoldilocksConfig(**{"dimensions": 6, **options})).evaluate(net, ctx)


def _curve(ctx: StageContext, name: str) -> np.ndarray:
    return np.array(ctx.curves[f"goldilocks_{name}_at"])


def test_the_glorot_radius_is_the_length_of_weights_drawn_so(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=20, shape=(1, 28, 28)))
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )
    for layer in (net[1], net[3], net[5]):
        xavier_uniform_(layer.weight)
    assert glorot_radius(Surface.of(net, ctx, 20)) == pytest.approx(23.19, abs=0.01)
    found = _measured(net, ctx, radii=[1.0], dimensions=2)
    assert found["goldilocks_glorot_radius"] == pytest.approx(23.19, abs=0.01)
    assert found["goldilocks_radius"] == pytest.approx(1, abs=0.01)
    with torch.no_grad():
        net[3].weight[:100] = 0
    left = sqrt(784 * 200 * 2 / 984 + 100 * 200 * 2 / 400 + 2000 * 2 / 210)
    assert glorot_radius(Surface.of(net, ctx, 20)) == pytest.approx(left)


def test_the_hessian_in_a_plane_is_that_of_the_whole(lab: Lab) -> None:
    net = lab.mlp(4).double()
    surface = Surface.of(net, _context(lab), 60)
    basis = plane(surface, 7, torch.Generator().manual_seed(0))
    torch.testing.assert_close(basis @ basis.T, torch.eye(7, dtype=torch.float64))
    within = basis @ surface.hessian(surface.start) @ basis.T
    eigenvalues = torch.linalg.eigvalsh(within)
    positive, trace_norm = in_plane(surface, surface.start, basis)
    assert positive == float((eigenvalues > 0).sum()) / 7 < 1
    assert trace_norm == pytest.approx(float(eigenvalues.sum() / eigenvalues.norm()))


def test_softmax_regression_is_convex_everywhere(lab: Lab) -> None:
    ctx = _context(lab)
    found = _measured(_linear(), ctx, radii=[0.3, 1.0, 3.0])
    assert found["goldilocks_positive"] == found["goldilocks_peak"] == 1
    assert (_curve(ctx, "positive")[:, 1] == 1).all()
    assert _curve(ctx, "positive")[:, 0].tolist() == [0.3, 1, 3]


def test_a_temperature_moves_what_happens_at_a_radius(lab: Lab) -> None:
    """Of a net that is linear in its weights, L(w) at temperature T is L(w / T) at temperature 1."""
    hot, cold = _context(lab), _context(lab)
    _measured(_linear(), hot, radii=[2.0, 8.0], temperature=4.0)
    _measured(_linear(), cold, radii=[0.5, 2.0])
    for name in ("trace_norm", "logit_scale"):
        np.testing.assert_allclose(_curve(hot, name)[:, 1], _curve(cold, name)[:, 1], rtol=1e-6)
    assert _curve(cold, "logit_scale")[1, 1] == pytest.approx(4 * _curve(cold, "logit_scale")[0, 1])


def test_a_flat_place_is_counted_and_has_no_numbers(lab: Lab) -> None:
    """Far out, a softmax that is right about everything is flat."""
    data = lab.data(train=60, noise=0.0)
    ctx = lab.context(data=data)
    net = _linear().float()
    with torch.no_grad():
        x, y = data.train.tensors()
        x = x.flatten(1)
        net[1].weight.copy_(torch.stack([x[y == k].mean(0) for k in range(10)]) - x.mean(0))
    found = _measured(net, ctx, radii=[1.0, 1e6])
    assert found["goldilocks_flat"] == 1
    assert np.isnan(_curve(ctx, "positive")[1, 1])
    assert found["goldilocks_peak_radius"] == 1


def test_a_net_of_zeros_has_no_direction(lab: Lab) -> None:
    net = _linear()
    with torch.no_grad():
        net[1].weight.zero_()
    assert _measured(net, _context(lab)) == {}


def test_batch_norms_are_measured_again_at_each_radius(lab: Lab) -> None:
    """Otherwise a scaled layer would come with the statistics of the one before."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8, affine=False, eps=1e-12)
    )
    net.append(nn.Linear(8, 10, bias=False))
    with torch.no_grad():
        net[2](net[1](torch.randn(100, 64)))
    net[3].weight.requires_grad_(False)
    ctx = _context(lab)
    _measured(net.double().eval(), ctx, radii=[0.5, 4.0])
    scale = _curve(ctx, "logit_scale")[:, 1]
    assert scale[1] == pytest.approx(scale[0], rel=1e-6)


def test_a_killed_measurement_goes_on(
    lab: Lab, killed_after: Callable[..., Any], killed: type[Exception]
) -> None:
    class Rows(killed_after):
        def save(self, tensors: Any, facts: Any) -> None:
            super().save(tensors, {"epoch": facts["rows"], "rows": facts["rows"], "curves": {}, "notes": {}})

    whole = _measured(lab.mlp(4).double(), _context(lab), radii=[0.5, 1.0, 2.0])
    ctx = _context(lab, progress=Rows(2))
    with pytest.raises(killed):
        _measured(lab.mlp(4).double(), ctx, radii=[0.5, 1.0, 2.0])
    assert _measured(lab.mlp(4).double(), ctx, radii=[0.5, 1.0, 2.0]) == whole


def test_logit_scale_is_the_deviation_within_examples() -> None:
    assert logit_scale(torch.tensor([[1.0, 3.0], [11.0, 13.0]])) == pytest.approx(1)


def test_the_same_radius_twice_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="differ"):
        GoldilocksConfig(radii=(1.0, 1.0))
