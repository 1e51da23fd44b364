"""Measuring for the estimate: a small net as it will be trained, a large one with few images and little time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from compressit.running.calibrate import LONG, TOO_LONG, seconds_of

FEW = 4


@dataclass
class Machine:
    """A clock, and calls that take a fixed time and more for each image; the first of each number takes longer."""

    fixed: float
    each: float
    warming: float = 0.0
    now: float = 0.0
    calls: list[int] = field(default_factory=list[int])

    def prepare(self, images: int) -> Callable[[], None]:
        def call() -> None:
            self.now += self.fixed + self.each * images + self.warming * (images not in self.calls)
            self.calls.append(images)

        return call


def _measured(monkeypatch: pytest.MonkeyPatch, machine: Machine, images: int, budget: float) -> float:
    clock = SimpleNamespace(perf_counter=lambda: machine.now)
    monkeypatch.setattr("compressit.running.calibrate.time", clock)
    return seconds_of(machine.prepare, images, FEW, budget)


def test_a_quick_net_is_measured_as_it_will_be_used_and_warming_up_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(fixed=1e-3, each=1e-5, warming=0.01)
    assert _measured(monkeypatch, machine, 100, 0.5) == pytest.approx(1e-3 + 100e-5)
    assert machine.calls.count(100) > 100
    assert max(machine.calls) == 100


@pytest.mark.parametrize("each", [1e-4, 1e-3, 0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("images", [1, 3, 64, 1000])
def test_time_and_images_are_bounded_whatever_the_net_costs(
    monkeypatch: pytest.MonkeyPatch, each: float, images: int
) -> None:
    machine = Machine(fixed=0, each=each)
    assert _measured(monkeypatch, machine, images, 0.5) == pytest.approx(images * each), "in proportion"
    first = min(FEW, images) * each
    assert max(machine.calls) <= max(first, LONG) / each
    if first < TOO_LONG:
        assert machine.now <= 2 * max(first, 2 * LONG)
    else:
        assert machine.calls == [min(FEW, images)]


def test_a_busy_machine_does_not_make_a_small_net_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other make every call slow, however few its images."""
    machine = Machine(fixed=0.1, each=1e-5)
    assert _measured(monkeypatch, machine, 128, 0.2) == pytest.approx(0.1 + 128e-5)
