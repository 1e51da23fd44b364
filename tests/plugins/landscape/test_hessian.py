from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn

from compressit import CompressitError, StageContext
from compressit.contract.compute import Compute
from compressit_plugins.landscape import spectrum
from compressit_plugins.landscape.hessian import Hessian, HessianConfig
from compressit_plugins.landscape.spectrum import largest, quadrature_of, signs
from compressit_plugins.landscape.surface import Surface


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _symmetric(eigenvalues: Tensor) -> Tensor:
    """A matrix with these eigenvalues, in a random basis."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=_seeded())).Q
    return basis @ torch.diag(eigenvalues.double()) @ basis.T


def _measured(net: nn.Module, ctx: StageContext, **options: Any) -> Mapping[str, float]:
    return Hessian(HessianConfig(**options)).evaluate(net, ctx)


def _context(lab: Lab) -> StageContext:
    return lab.context(data=lab.data(train=60), compute=Compute(precision="fp64"))


@pytest.mark.parametrize("whole", [0, 10**6])
def test_numbers_of_a_small_net_are_those_of_its_whole_hessian(
    lab: Lab, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectrum, "_WHOLE", whole)
    ctx, net = _context(lab), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    exact = torch.linalg.eigvalsh(Surface.of(net, ctx, 60).hessian(Surface.of(net, ctx, 60).start))
    found = _measured(net, ctx, images=60, eigenvalues=3, probes=40, steps=30)
    np.testing.assert_allclose(ctx.arrays["hessian_eigenvalues"], exact.flip(0)[:3], rtol=1e-3)
    assert found["hessian_top"] == pytest.approx(float(exact[-1]), rel=1e-3)
    assert found["hessian_lowest"] == pytest.approx(float(exact[0]), abs=1e-3 * float(exact[-1]))
    assert abs(found["hessian_trace"] - float(exact.sum())) < 4 * found["hessian_trace_error"]
    assert found["hessian_trace_error"] < 0.2 * float(exact.sum())
    places, values = np.array(ctx.curves["hessian_density"]).T
    assert np.trapezoid(values, places) == pytest.approx(1, abs=0.01)
    assert np.trapezoid(values * places, places) == pytest.approx(float(exact.mean()), rel=0.2)


def test_one_probe_has_no_standard_error(lab: Lab) -> None:
    assert "hessian_trace_error" not in _measured(
        lab.mlp(), lab.context(data=lab.data(train=20)), probes=1, steps=2
    )


def test_quadrature_from_every_direction_is_the_spectrum() -> None:
    """The mean over an orthonormal basis of the squared first components is 1/n for each eigenvalue."""
    exact = torch.tensor([-1.0, 0.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    matrix = _symmetric(exact)
    found = quadrature_of(lambda v: v @ matrix, torch.eye(5, dtype=torch.float64), 9)
    weights = torch.stack([found.weights[(found.nodes - value).abs() < 1e-8].sum() / 5 for value in exact])
    torch.testing.assert_close(weights, torch.full((5,), 0.2, dtype=torch.float64))
    trace, error = found.trace()
    assert trace == pytest.approx(8.5)
    assert error > 0


def test_quadrature_integrates_polynomials_of_a_degree_below_twice_the_steps() -> None:
    """Gauss quadrature: with 3 steps, v·Hᵏv exactly for k up to 5."""
    matrix = _symmetric(torch.randn(20, generator=_seeded()))
    starts = signs(matrix[0], 2, _seeded())
    found = quadrature_of(lambda v: v @ matrix, starts, 3)
    for power in range(6):
        exact = ((starts @ torch.linalg.matrix_power(matrix, power)) * starts).sum(1)
        torch.testing.assert_close((found.weights * found.nodes**power).sum(1), exact)
    exact = ((starts @ torch.linalg.matrix_power(matrix, 6)) * starts).sum(1)
    assert not torch.allclose((found.weights * found.nodes**6).sum(1), exact)


def test_a_matrix_of_low_rank_ends_lanczos_early() -> None:
    matrix = _symmetric(torch.tensor([5.0] + [0.0] * 29)).float()
    found = quadrature_of(lambda v: v @ matrix, signs(matrix[0], 3, _seeded()), 10)
    assert found.seen().min() == pytest.approx(0, abs=1e-5)
    assert found.seen().max() == pytest.approx(5, abs=1e-5)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_a_trace_of_a_diagonal_matrix_is_exact_from_random_signs() -> None:
    """Hutchinson's estimate has no variance where no entry beside the diagonal does."""
    diagonal = torch.arange(6, dtype=torch.float64)
    found = quadrature_of(lambda v: v * diagonal, signs(diagonal, 4, _seeded()), 1)
    torch.testing.assert_close(found.traces, torch.full((4,), 15.0, dtype=torch.float64))
    assert found.trace()[1] == pytest.approx(0, abs=1e-12)
    single = quadrature_of(lambda v: v * diagonal, signs(diagonal, 1, _seeded()), 1)
    assert isnan(single.trace()[1])


def test_eigenvalues_that_are_not_found_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "_RESTARTS", 1)
    matrix = _symmetric(torch.linspace(0.99, 1, 900))
    with pytest.raises(CompressitError, match="4 largest eigenvalues") as told:
        largest(lambda v: v @ matrix, matrix[0], 4, _seeded())
    assert "fp64" in str(told.value.hint)


def test_a_net_without_a_finite_loss_has_no_numbers(lab: Lab) -> None:
    net = lab.mlp()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    assert _measured(net, lab.context(data=lab.data(train=20))) == {}


def test_the_same_seed_gives_the_same_bits(lab: Lab) -> None:
    def numbers() -> Mapping[str, float]:
        return _measured(lab.mlp(), lab.context(data=lab.data(train=20)), eigenvalues=2, probes=2, steps=3)

    assert numbers() == numbers()
