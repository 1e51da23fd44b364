"""A whole number divided in proportion."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit import shares


@pytest.mark.parametrize(
    ("sizes", "total", "wanted"),
    [
        ([53_000, 24_000, 23_000], 10, [5, 3, 2]),
        ([1, 1, 1], 2, [1, 1, 0]),  # of equal remainders the first
        ([5, 0, 5], 10, [5, 0, 5]),
        ([0, 0], 0, [0, 0]),
        ([], 0, []),
    ],
)
def test_seats_go_by_largest_remainders(sizes: list[int], total: int, wanted: list[int]) -> None:
    assert shares(sizes, total) == wanted


@given(st.lists(st.integers(0, 50), min_size=1), st.data())
def test_parts_sum_up_within_one_of_their_quota_and_never_above_their_size(
    sizes: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(sizes)))
    found = shares(sizes, total)
    assert sum(found) == total
    for size, part in zip(sizes, found, strict=True):
        assert 0 <= part <= size
        assert abs(part - Fraction(total * size, max(sum(sizes), 1))) < 1
