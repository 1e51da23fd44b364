from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn

from compressit import CompressitError, StageContext
from compressit_plugins.landscape.critical import (
    Landscape,
    along_descent,
    newton,
    numbers,
    perturbed,
    semicircle_below,
)
from compressit_plugins.landscape.critical_points import CriticalPoints, CriticalPointsConfig
from compressit_plugins.landscape.surface import Surface


class Known:
    """A function of two variables as a landscape."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def loss(self, at: Tensor) -> float:
        return float(self.function(at))

    def gradient(self, at: Tensor) -> Tensor:
        return torch.func.grad(self.function)(at)

    def hessian(self, at: Tensor) -> Tensor:
        return torch.func.hessian(self.function)(at)


def _two_wells(at: Tensor) -> Tensor:
    """Minima at (±1, 0), a saddle at 0."""
    return (at[0] ** 2 - 1) ** 2 / 4 + at[1] ** 2


def _ended(function: Callable[[Tensor], Tensor], *start: float, steps: int = 100) -> dict[str, float]:
    landscape: Any = Known(function)
    begin = torch.tensor(start, dtype=torch.float64)
    reached = newton(landscape, begin, steps, 1e-8)
    names = ("loss", "index", "squared_gradient", "flatness", "steps", "start_loss")
    return dict(zip(names, numbers(landscape, begin, reached), strict=False))


def test_newton_finds_the_nearest_saddle_or_minimum() -> None:
    saddle, minimum = _ended(_two_wells, 0.3, 0.5), _ended(_two_wells, 0.8, 0.5)
    assert saddle["squared_gradient"] < 1e-12 > minimum["squared_gradient"]
    assert saddle["loss"] == pytest.approx(0.25)
    assert minimum["loss"] == pytest.approx(0, abs=1e-10)
    assert (saddle["index"], minimum["index"]) == (0.5, 0)
    assert saddle["start_loss"] == pytest.approx((0.3**2 - 1) ** 2 / 4 + 0.25)


def test_a_gradient_that_the_hessian_does_not_see_is_no_critical_point() -> None:
    """The gradient of x³/3 + x is nowhere zero; Newton's method ends where its norm is lowest."""
    ended = _ended(lambda at: at[0] ** 3 / 3 + at[0] + at[1] ** 2, 0.7, 0.3)
    assert ended["squared_gradient"] == pytest.approx(1, abs=1e-3)
    assert ended["flatness"] < 0.05


def _context(lab: Lab, **fields: Any) -> StageContext:
    return lab.context(data=lab.data(train=60, shape=(4,), classes=3), **fields)


def _net(*hidden: int) -> nn.Module:
    torch.manual_seed(0)
    widths = [4, *hidden, 3]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def _measured(net: nn.Module, ctx: StageContext, **options: Any) -> Mapping[str, float]:
    return CriticalPoints(CriticalPointsConfig(**{"descent": 300, **options})).evaluate(net, ctx)


def test_a_convex_loss_has_one_critical_point(lab: Lab) -> None:
    ctx = _context(lab)
    found = _measured(_net(), ctx, attempts=6, l2=0.01)
    assert found["critical_accepted"] == 6
    assert found["critical_distinct"] == 1
    assert found["critical_rejected"] == found["critical_lowest_index"] == 0
    assert "critical_correlation" not in found
    points = ctx.arrays["critical_points"]
    assert points.shape == (6, 6)
    assert (points[:, 0] <= points[:, 5]).all()
    assert ctx.arrays["critical_eigenvalues"].shape == (6, 15)
    assert ctx.arrays["critical_eigenvalues"].min() > 0.0099


def test_saddles_of_a_small_net_lie_the_higher_the_more_ways_lead_down(lab: Lab) -> None:
    ctx = _context(lab)
    found = _measured(_net(3), ctx, attempts=14, l2=0.01, steps=60)
    assert found["critical_accepted"] + found["critical_rejected"] == 14
    assert found["critical_distinct"] >= 3
    assert found["critical_correlation"] > 0.8
    places, indices = np.array(ctx.curves["critical_index"]).T
    assert len(places) == found["critical_accepted"]
    assert (np.diff(places) >= 0).all()
    assert indices.max() > 0.1
    assert ctx.pictures["critical_picture"].startswith(b"\x89PNG")


def test_a_stricter_limit_rejects_what_a_loose_one_accepts(lab: Lab) -> None:
    loose = _measured(_net(3), _context(lab), attempts=3, steps=1, accept=1e6)
    strict = _measured(_net(3), _context(lab), attempts=3, steps=1, accept=1e-30)
    assert (loose["critical_accepted"], strict["critical_accepted"]) == (3, 0)
    assert "critical_lowest_index" not in strict


def test_starts_lie_evenly_in_loss(lab: Lab) -> None:
    landscape = Landscape(Surface.of(_net(3), _context(lab), 60, torch.float64), 0.01)
    starts = along_descent(landscape, 400, 5)
    assert torch.equal(starts[0], landscape.surface.start)
    losses = np.array([landscape.loss(at) for at in starts])
    np.testing.assert_allclose(losses, np.linspace(losses[0], losses[-1], 5), atol=0.03)
    assert losses[-1] < 0.8 * losses[0]
    around = along_descent(landscape, 0, 3)
    assert all(torch.equal(at, landscape.surface.start) for at in around)
    moved = perturbed(around[0], torch.Generator().manual_seed(0)) - around[0]
    assert 0.0005 < float(moved.std() / around[0].std()) < 1.5


def test_the_l2_term_is_in_value_gradient_and_hessian(lab: Lab) -> None:
    surface = Surface.of(_net(3), _context(lab), 60, torch.float64)
    at, plain, ridged = surface.start, Landscape(surface, 0.0), Landscape(surface, 0.5)
    assert ridged.loss(at) - plain.loss(at) == pytest.approx(0.25 * float(at @ at))
    torch.testing.assert_close(ridged.gradient(at) - plain.gradient(at), 0.5 * at)
    torch.testing.assert_close(
        ridged.hessian(at) - plain.hessian(at), 0.5 * torch.eye(len(at), dtype=torch.float64)
    )


def test_a_killed_search_goes_on(lab: Lab, killed_after: Callable[..., Any], killed: type[Exception]) -> None:
    class Rows(killed_after):
        def save(self, tensors: Any, facts: Any) -> None:
            super().save(tensors, {"epoch": facts["rows"], "rows": facts["rows"], "curves": {}, "notes": {}})

    options: dict[str, Any] = {"attempts": 4, "steps": 5, "accept": 1e-2}
    whole = _measured(_net(3), _context(lab), **options)
    ctx = _context(lab, progress=Rows(2))
    with pytest.raises(killed):
        _measured(_net(3), ctx, **options)
    assert _measured(_net(3), ctx, **options) == whole


def test_a_large_net_is_refused(lab: Lab) -> None:
    with pytest.raises(CompressitError, match=r"7.203 weights") as told:
        _measured(_net(900), _context(lab))
    assert "eval.hessian" in str(told.value.hint)


def test_the_semicircle_is_that_of_random_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(600, 600, generator=generator, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh((drawn + drawn.T) / (2 * np.sqrt(2 * 600)))
    for shift in (-0.9, -0.3, 0.0, 0.5):
        below = float((eigenvalues - shift < 0).double().mean())
        assert semicircle_below(np.array(shift)) == pytest.approx(below, abs=0.01)
