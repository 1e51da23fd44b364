"""Statistics of inputs that come in batches, against numpy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressit.datasets import statistics
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.statistics import channel_scaling, factor_of, moments


@given(st.integers(1, 40), st.integers(1, 50), st.floats(-1e3, 1e3))
def test_moments_are_numpys_in_whatever_batches(count: int, size: int, offset: float) -> None:
    x = torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(count), dtype=torch.float64) + offset
    found = moments(x.split(size))
    flat = x.flatten(1).numpy()
    np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-12, atol=1e-9)
    if count > 1:
        np.testing.assert_allclose(found.variance, flat.var(0, ddof=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.overall(), (flat.mean(), flat.std()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_scaling_of_bytes_is_exact_in_whatever_batches(size: int) -> None:
    x = torch.randint(0, 256, (100, 3, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[:, 1] = 77  # a channel that never varies is only centred
    mean, std = channel_scaling(x.split(size))
    pixels = x.double().numpy() / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(np.array(std)[[0, 2]], pixels.std((0, 2, 3))[[0, 2]], rtol=1e-12)
    assert std[1] == 1.0
    assert (mean, std) == channel_scaling([x])


def test_inputs_with_many_values_have_the_covariance_of_some_of_every_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "EXACT", 20)
    x = torch.rand(50, 30, generator=torch.Generator().manual_seed(0))
    x[25:] *= 0.1  # the second class is darker, and comes after the first
    y = torch.arange(50) // 25
    found = prepare(Sources((x, y)), DataConfig(), 2, ("a", "b")).train.covariance()
    assert (found.count, found.factor.shape) == (20, (20, 30))
    some = x[np.arange(20) * 50 // 20].double().numpy()
    np.testing.assert_allclose(found.mean, some.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.factor.T @ found.factor, np.cov(some.T), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.mean, x.double().mean(0), atol=0.15)  # the first 20 are 0.22 away


def test_a_factor_gives_its_matrix_and_has_its_rank() -> None:
    some = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    some[:, 4] = some[:, 0] + some[:, 1]  # five directions only
    matrix = torch.cov(some.T).float()
    factor = factor_of(matrix)
    assert factor.shape[1] == 6
    torch.testing.assert_close(factor.T @ factor, matrix, rtol=1e-4, atol=1e-5)
