"""Measuring for the estimate."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compressit.running.calibrate import TOO_LONG, seconds_of


@pytest.mark.parametrize(
    ("takes", "warming", "calls", "measured"),
    [
        (0.01, 1.0, 51, 0.01),  # the first call does not count
        (0.4, 0.0, 3, 0.4),
        (TOO_LONG + 1, 0.0, 1, TOO_LONG + 1),  # a large net on a slow machine
    ],
)
def test_calls_are_timed_for_as_long_as_there_is(
    monkeypatch: pytest.MonkeyPatch, takes: float, warming: float, calls: int, measured: float
) -> None:
    now, made = [0.0], [0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("compressit.running.calibrate.time", clock)

    def call() -> None:
        now[0] += takes + (0 if made[0] else warming)
        made[0] += 1

    assert seconds_of(call, 0.5) == pytest.approx(measured)
    assert made[0] == pytest.approx(calls, abs=1)
