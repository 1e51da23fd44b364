"""`target: latency`: a search on a clock that scatters, on times that a narrower model does not always shorten."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from structured_nets import Plain, example
from torch import Tensor, nn

from compressit.errors import CompressitError
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.latency_search import find_timed
from compressit_plugins.prune.selection import Rule, Selection, select

FEWEST = 10  # readings of any selection


@dataclass
class Machine:
    """Layers in a row, timed in blocks of 8 x 8 channels, ragged widths 5 % slower, with noise in each timing."""

    widths: tuple[int, ...]
    noise: float
    seed: int = 0
    timings: int = 0
    clocks: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.groups = [
            Group(str(i), width, 1, (), torch.arange(width).float(), i) for i, width in enumerate(self.widths)
        ]
        self.rule = Rule("local", 1, 1.0, {group.name: group.width for group in self.groups})

    def at(self, share: float) -> Selection:
        return select(self.groups, share, self.rule)

    def true(self, selection: Selection) -> float:
        left = [width - gone for width, gone in zip(self.widths, selection.key, strict=True)]
        return self.cost(left) / self.cost(self.widths)

    def cost(self, widths: tuple[int, ...] | list[int]) -> float:
        blocks = [math.ceil(width / 8) for width in (3, *widths, 10)]
        ragged = [1.05 if width % 8 else 1.0 for width in (*widths, 16)]
        return sum(a * b * slower for (a, b), slower in zip(pairwise(blocks), ragged, strict=True))

    def clock(self, selection: Selection) -> Callable[[], float]:
        self.clocks.append(selection.key)
        true = self.true(selection)
        return lambda: self.timed(true) / self.timed(1.0)

    def timed(self, seconds: float) -> float:
        self.timings += 1
        return seconds * math.exp(self.random.gauss(0, self.noise))


def test_it_finds_the_target_through_five_percent_of_noise_in_each_timing() -> None:
    errors: list[float] = []
    timings: list[int] = []
    for seed in range(200):
        machine = Machine((64, 128, 256), noise=0.05, seed=seed)
        try:
            chosen, measured = find_timed(machine.clock, machine.at, 0.5)
        except CompressitError:
            continue
        finally:
            timings.append(machine.timings)
        assert abs(measured / 0.5 - 1) <= 0.02
        errors.append(abs(machine.true(chosen) / 0.5 - 1))
    assert len(errors) >= 195
    assert max(errors) <= 0.04
    assert statistics.mean(error <= 0.02 for error in errors) >= 0.9
    assert statistics.median(timings) <= 2_000
    assert max(timings) <= 20_000


def test_a_quiet_clock_is_read_no_more_often_than_it_must() -> None:
    machine = Machine((64, 128, 256), noise=0)
    chosen, measured = find_timed(machine.clock, machine.at, 0.5)
    assert measured == machine.true(chosen) == pytest.approx(0.5, rel=0.02)
    assert machine.timings == 2 * FEWEST * len(machine.clocks)
    assert machine.clocks.count(chosen.key) == 2  # the second time for the confirmation


@pytest.mark.parametrize(("target", "message"), [(0.62, "no widths keep 0.62"), (0.01, "out of reach")])
def test_a_target_that_no_width_has_is_said_and_the_search_ends(target: float, message: str) -> None:
    said = 0
    for seed in range(40):
        machine = Machine((24,), noise=0.05, seed=seed)  # a third, two thirds, or all of it
        try:
            find_timed(machine.clock, machine.at, target)
        except CompressitError as error:
            said += message in error.message
        assert machine.timings <= 10_000
    assert said >= 38


def test_readings_that_flatter_a_selection_are_not_what_is_believed() -> None:
    """The first clock of every selection says the target, later ones half as much again."""
    machine = Machine((64, 128, 256), noise=0)

    def clock(selection: Selection) -> Callable[[], float]:
        again = selection.key in machine.clocks
        machine.clock(selection)
        return lambda: 0.75 if again else 0.5

    with pytest.raises(CompressitError, match=r"no widths keep 0.5|0\.75 when they were timed again"):
        find_timed(clock, machine.at, 0.5)


def test_a_step_towards_the_target_needs_no_second_measurement() -> None:
    machine = Machine((64, 128, 256), noise=0.01)
    chosen, measured = find_timed(machine.clock, machine.at, 0.5, strict=False)
    assert measured == pytest.approx(machine.true(chosen), rel=0.02)
    assert machine.clocks.count(chosen.key) == 1


def test_a_model_is_timed_in_turn_with_its_parent_and_what_is_noted_was_measured_last() -> None:
    readings: list[tuple[nn.Module, float]] = []
    noise = random.Random(0)

    def clock(net: nn.Module, x: Tensor) -> float:
        assert isinstance(net, Plain)
        seconds = (3 + net.conv2.out_channels) * net.conv1.out_channels * math.exp(noise.gauss(0, 0.05))
        readings.append((net, seconds))
        return seconds

    _, report = prune_channels(Plain(64, 96), example(), 0.5, target="latency", seconds=clock)
    small, parents = readings[::2], readings[1::2]
    assert {(net.conv1.out_channels, net.conv2.out_channels) for net, _ in parents} == {(64, 96)}
    ratios = [(net, a / b) for (net, a), (_, b) in zip(small, parents, strict=True)]
    confirming = [ratio for net, ratio in ratios if net is small[-1][0]]
    assert len(confirming) >= FEWEST
    assert report.achieved == statistics.median(confirming)
    widths = (report.widths["conv1"][1], report.widths["conv2"][1])
    chosen = {id(net) for net, _ in small if (net.conv1.out_channels, net.conv2.out_channels) == widths}
    assert len(chosen) >= 2, "it was chosen by other readings"
    assert widths[0] * (3 + widths[1]) / (64 * 99) == pytest.approx(0.5, rel=0.04)
