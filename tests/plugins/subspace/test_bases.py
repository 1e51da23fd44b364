"""Random bases: unit columns in random directions, and a fast transform that is the matrix it stands for."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import hadamard
from torch import Tensor

from compressit.errors import CompressitError
from compressit_plugins.subspace import bases
from compressit_plugins.subspace.bases import Kind, check_size, drawn, walsh_hadamard

KINDS: tuple[Kind, ...] = ("dense", "sparse", "fastfood")
WEIGHTS, DIMENSION = 4001, 12  # the last block of 16 is cut off


def matrix(kind: Kind, weights: int = WEIGHTS, dimension: int = DIMENSION, seed: int = 0) -> Tensor:
    """P, column by column, as float64."""
    generator = torch.Generator().manual_seed(seed)
    basis = drawn(kind, weights, dimension, generator, "cpu", torch.float64)
    return torch.stack([basis.expand(unit) for unit in torch.eye(dimension, dtype=torch.float64)], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_random_directions_of_unit_norm(kind: Kind) -> None:
    columns = matrix(kind)
    assert columns.shape == (WEIGHTS, DIMENSION)
    tolerance = 0.01 if kind == "fastfood" else 1e-12
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(DIMENSION).double(), rtol=0, atol=tolerance)
    gram = columns.T @ columns - torch.eye(DIMENSION)
    assert gram.abs().max() < 5 / WEIGHTS**0.5, "nearly orthogonal, as independent directions are"
    assert torch.linalg.matrix_rank(columns) == DIMENSION
    thirds = columns.square().chunk(3)
    assert all(0.5 < float(part.sum()) / DIMENSION * 3 < 1.5 for part in thirds), "they favour no layer"
    assert torch.equal(columns, matrix(kind))
    assert not torch.equal(columns, matrix(kind, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_come_back_by_the_transposed_matrix(kind: Kind) -> None:
    columns = matrix(kind)
    basis = drawn(kind, WEIGHTS, DIMENSION, torch.Generator().manual_seed(0), "cpu", torch.float64)
    coordinates = torch.randn(DIMENSION, dtype=torch.float64, requires_grad=True)
    weights = basis.expand(coordinates)
    torch.testing.assert_close(weights, columns @ coordinates)
    upstream = torch.randn(WEIGHTS, dtype=torch.float64)
    weights.backward(upstream)
    torch.testing.assert_close(coordinates.grad, columns.T @ upstream)


@pytest.mark.parametrize("n", [1, 2, 64, 256, 8192])
def test_the_fast_transform_is_the_product_with_hadamards_matrix(n: int) -> None:
    x = torch.randn(3, n, dtype=torch.float64)
    torch.testing.assert_close(walsh_hadamard(x), x @ torch.from_numpy(hadamard(n)).double())


@pytest.mark.parametrize("kind", ["sparse", "fastfood"])
def test_only_a_dense_basis_is_stored_as_a_matrix(kind: Kind) -> None:
    basis = drawn(kind, 10**5, 1000, torch.Generator().manual_seed(0), "cpu", torch.float32)
    stored = sum(value.numel() for value in vars(basis).values() if isinstance(value, Tensor))
    assert stored < 10**6


def test_a_sparse_column_has_its_entries_at_different_places() -> None:
    columns = matrix("sparse")
    assert (columns.count_nonzero(dim=0) == 63).all()  # the root of 4001
    assert columns[columns != 0].abs().tolist() == pytest.approx([63**-0.5] * 63 * DIMENSION)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subspace_may_be_as_large_as_the_space(kind: Kind) -> None:
    assert torch.linalg.matrix_rank(matrix(kind, 20, 20)) >= 15


def test_a_dense_basis_that_fills_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_size("dense", 199_210, 1500, torch.float32)
    with pytest.raises(CompressitError, match=r"14\.8 GiB") as caught:
        check_size("dense", 199_210, 20_000, torch.float32)
    assert "fastfood" in str(caught.value.hint)
    check_size("sparse", 199_210, 20_000, torch.float32)
    monkeypatch.setattr(bases, "DENSE_BYTES", 2**40)
    with pytest.raises(CompressitError, match=r"200,000 dimensions .* 199,210 weights"):
        check_size("fastfood", 199_210, 200_000, torch.float32)
