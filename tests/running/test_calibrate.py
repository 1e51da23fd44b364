"""Measuring for the estimate."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compressit.running.calibrate import TOO_LONG, seconds_of


@pytest.mark.parametrize(
    ("takes", "warming", "most", "calls", "measured"),
    [
        (0.01, 1.0, 1000, 51, 0.01),  # the first call does not count
        (0.4, 0.0, 1000, 3, 0.4),
        (TOO_LONG + 1, 0.0, 1000, 1, TOO_LONG + 1),  # a large net on a slow machine
        (0.01, 1.0, 7, 8, 0.01),
        (0.01, 1.0, 0, 2, 0.01),  # where little is to be done, but something must be known
    ],
)
def test_calls_are_timed_for_as_long_as_there_is_and_no_more_often_than_asked(
    monkeypatch: pytest.MonkeyPatch, takes: float, warming: float, most: int, calls: int, measured: float
) -> None:
    now, made = [0.0], [0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("compressit.running.calibrate.time", clock)

    def call() -> None:
        now[0] += takes + (0 if made[0] else warming)
        made[0] += 1

    assert seconds_of(call, 0.5, most) == pytest.approx(measured)
    assert made[0] == pytest.approx(calls, abs=most > 500)
