"""The lowest values, exactly as many as wanted, against a stable sort."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compressit_plugins.prune import lowest as of_lowest
from compressit_plugins.prune.lowest import itself, lowest, lowest_but_one, lowest_in_rows

# few values, so that ties are the rule
TENSORS = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=12), min_size=1, max_size=4)
OF = st.sampled_from([torch.abs, itself])


@pytest.fixture(scope="module", params=[0, 1 << 24], autouse=True)
def _copied(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test with many values, which are not copied, and with few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_lowest, "_COPIED", request.param)
        yield


def made_of(values: list[list[int]]) -> dict[str, Tensor]:
    return {str(i): torch.tensor(v, dtype=torch.float32) for i, v in enumerate(values)}


def ranked(values: Tensor) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (float(values[i]), i))


@given(TENSORS, st.floats(0, 1), OF)
def test_exactly_the_wanted_number_of_the_lowest(
    values: list[list[int]], share: float, of: Callable[[Tensor], Tensor]
) -> None:
    tensors = made_of(values)
    flat = torch.cat([of(value) for value in tensors.values()])
    count = round(share * len(flat))
    chosen = torch.cat(list(lowest(tensors, count, of).values()))
    assert sorted(chosen.nonzero().flatten().tolist()) == sorted(ranked(flat)[:count])


@given(TENSORS, st.floats(0, 1), OF)
def test_the_highest_of_each_stays_and_the_others_make_up_for_it(
    values: list[list[int]], share: float, of: Callable[[Tensor], Tensor]
) -> None:
    tensors = made_of(values)
    free: list[tuple[float, int]] = []
    start = 0
    for value in tensors.values():  # of each its highest, of equal ones the last, cannot go
        order = ranked(of(value))
        free += [(float(of(value)[i]), start + i) for i in order[:-1]]
        start += len(value)
    count = round(share * len(free))
    chosen = torch.cat(list(lowest_but_one(tensors, count, of).values()))
    assert sorted(chosen.nonzero().flatten().tolist()) == sorted(at for _, at in sorted(free)[:count])


@given(st.integers(1, 5), st.integers(1, 7), st.floats(0, 1), st.integers(0, 9))
def test_each_row_gives_as_many(rows: int, length: int, share: float, seed: int) -> None:
    values = torch.randint(-3, 4, (rows, length), generator=torch.Generator().manual_seed(seed)).float()
    count = round(share * rows * length)
    mask = lowest_in_rows(values, count)
    given_by = mask.sum(1)
    assert int(given_by.sum()) == count
    assert int(given_by.max() - given_by.min()) <= 1
    for row, gone, n in zip(values, mask, given_by.tolist(), strict=True):
        assert sorted(gone.nonzero().flatten().tolist()) == sorted(ranked(row)[:n])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("of", [torch.abs, itself])
def test_the_selection_is_that_of_a_stable_sort(
    dtype: torch.dtype, share: float, of: Callable[[Tensor], Tensor]
) -> None:
    draws = torch.Generator().manual_seed(0)
    odd = torch.tensor([float("nan"), -float("nan"), float("inf"), -float("inf"), 0.0, 1e-45])
    weights = {
        "large": torch.randn(1_200, 1_000, generator=draws).round(decimals=2) + 0.0,  # chunks, full of ties
        "odd": odd, "turned": torch.randn(7, 5, generator=draws).t(), "empty": torch.empty(0, 3),
    }  # fmt: skip
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    flat = torch.cat([of(weight).float().flatten() for weight in weights.values()])
    order = flat.argsort(stable=True)
    expected = torch.zeros_like(flat, dtype=torch.bool)
    count = round(share * len(order))
    expected[order[:count]] = True
    masks = lowest(weights, count, of)
    assert [mask.shape for mask in masks.values()] == [weight.shape for weight in weights.values()]
    assert torch.equal(torch.cat([mask.flatten() for mask in masks.values()]), expected)


@given(st.integers(0, 15), st.integers(0, 9), OF)
def test_all_but_a_few_are_found_as_a_stable_sort_finds_them(
    left: int, seed: int, of: Callable[[Tensor], Tensor]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {str(size): torch.randint(-30, 31, (size,), generator=generator).float() for size in (40, 300)}
    tensors["300"][:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, 30, 30])
    flat = torch.cat([of(value) for value in tensors.values()])
    order = flat.nan_to_num(nan=torch.finfo().max, posinf=1e30).argsort(stable=True)
    chosen = torch.cat(list(lowest(tensors, len(flat) - left, of).values()))
    assert sorted(chosen.nonzero().flatten().tolist()) == sorted(order[: len(flat) - left].tolist())
