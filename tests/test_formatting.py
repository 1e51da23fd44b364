"""How numbers are printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.formatting import counted, duration, grouped, number, percent


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "fraction", "–"),
        ("", None, "–"),
        (0.95436, "fraction", "95.44 %"),
        (0.0, "fraction", "0.00 %"),
        (1.806, "bits", "1.81"),
        (669706, "count", "669 706"),
        (2678824.0, "bytes", "2 678 824"),
        (0.123456, None, "0.1235"),
        (0.00123, "seconds", "1.23 ms"),
        (math.nan, "fraction", "not a number"),
        (math.inf, None, "∞"),
        ("cpu", None, "cpu"),
        (True, None, "True"),
    ],
)
def test_cells(value: object, unit: str | None, text: str) -> None:
    assert number(value, unit).replace("\u202f", " ") == text


@given(st.floats(0.0, 1.0), st.integers(0, 2))
def test_percent_calls_only_one_all_and_only_zero_nothing(fraction: float, decimals: int) -> None:
    text = percent(fraction, decimals).split("\u202f")[0]
    if 1e-6 < fraction < 1 - 1e-6:
        assert 0.0 < float(text) < 100.0
    assert float(text) == pytest.approx(100 * fraction, abs=0.5)


@given(st.integers(-(10**14), 10**14))
def test_grouped_whole_numbers_keep_every_digit(value: int) -> None:
    assert int(grouped(value).replace("\u202f", "")) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.02, "20 ms"),
        (4.14, "4.14 s"),
        (200, "3 min 20 s"),
        (59.9, "59.9 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\u202f", " ") == text


def test_one_is_one_and_all_others_are_several() -> None:
    assert [counted(number, "round") for number in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]
