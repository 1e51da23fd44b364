"""Which channels go, on made-up groups; and the search for a cost, on made-up costs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.selection import Rule, Scope, select, varied
from compressit_plugins.prune.target import find_share, find_steps, off, unreachable


def group(scores: list[float] | None, parts: int = 1, name: str = "layer", pattern: str = "") -> Group:
    width = 12 if scores is None else len(scores) * parts
    return Group(name, width, parts, (), None if scores is None else torch.tensor(scores), pattern)


def rule(scope: Scope = "local", round_to: int = 1, max_ratio: float = 1.0, **initial: int) -> Rule:
    return Rule(scope, round_to, max_ratio, initial)


def test_local_takes_the_lowest_of_each_group_and_global_the_lowest_of_all() -> None:
    groups = [group([1, 2, 3, 4]), group([50, 30, 40, 20])]
    local = select(groups, 0.5, rule("local"))
    assert [mask.tolist() for mask in local.gone] == [[True, True, False, False], [False, True, False, True]]
    everywhere = select(groups, 0.5, rule("global"))
    assert everywhere.key == (3, 0)  # the fourth of the first group would leave it empty


def test_isomorphic_compares_only_groups_of_one_pattern() -> None:
    groups = [
        group([1, 2, 3, 4], pattern="a"),
        group([9, 8, 7, 6], pattern="b"),
        group([0, 0, 9, 9], pattern="a"),
    ]
    assert select(groups, 0.5, rule("isomorphic")).key == (2, 2, 2)
    assert select(groups, 0.75, rule("isomorphic")).key == (0, 1, 2)


def test_every_part_loses_the_same_positions() -> None:
    chosen = select([group([3, 1, 2], parts=2)], 0.67, rule())
    assert chosen.gone[0].tolist() == [False, True, False, False, True, False]


def test_later_steps_count_from_the_first_widths() -> None:
    once = select([group([1, 2, 3, 4, 5], name="a")], 0.5, rule(a=8))
    assert once.key == (1,)  # 5 of 8 are left, 4 are to stay


def test_groups_of_equal_width_change_one_after_the_other_for_a_search() -> None:
    groups = [group([1.0, 2, 3, 4], name=str(i)) for i in range(4)]
    totals = {sum(select(groups, 0.6247 + step * 1e-5, rule()).key) for step in range(40)}
    assert totals == {4, 5, 6, 7, 8}


def test_a_group_without_scores_stays_and_is_named() -> None:
    for scope in ("local", "global"):
        chosen = select([group(None, name="plain"), group([1, 2])], 0.5, rule(scope))
        assert chosen.key == (0, 1)
        assert chosen.skipped == ["plain"]


def test_single_widths_are_moved_by_steps_of_what_the_rule_allows() -> None:
    groups = [group([1, 2, 3, 4, 5, 6], name="a"), group([6, 5, 4, 3, 2, 1, 0, 9], name="b")]
    even = select(groups, 0.5, rule(round_to=2))  # 4 of 6 (3 rounds up) and 4 of 8
    assert even.key == (2, 4)
    moved = varied(groups, even, (-1, 1), rule(round_to=2))
    assert moved is not None
    assert [mask.tolist() for mask in moved.gone] == [
        [True] * 4 + [False] * 2,
        [False] * 5 + [True] * 2 + [False],
    ]
    assert varied(groups, even, (1, 0), rule(round_to=2)).key == (0, 4)  # type: ignore[union-attr]
    assert varied(groups, even, (1, 0), rule(round_to=2)).skipped == ["a"]  # type: ignore[union-attr]
    assert varied(groups, even, (2, 0), rule(round_to=2)) is None  # wider than it was
    assert varied(groups, even, (0, -2), rule(round_to=2)) is None  # nothing left
    assert varied(groups, even, (0, -1), rule(round_to=2, max_ratio=0.6)) is None
    assert varied([group(None)], select([group(None)], 0.5, rule()), (-1,), rule()) is None


def test_a_width_that_is_no_multiple_moves_to_the_next_one() -> None:
    groups = [group([float(i) for i in range(12)])]
    whole = select(groups, 0.99, rule(round_to=8))
    assert whole.key == (0,)
    assert varied(groups, whole, (-1,), rule(round_to=8)).key == (4,)  # type: ignore[union-attr]
    assert varied(groups, whole, (1,), rule(round_to=8)) is None


widths = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@settings(max_examples=40)
@given(
    widths,
    st.sampled_from(["local", "global", "isomorphic"]),
    st.integers(1, 9),
    st.integers(1, 3),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 1),
)
def test_smaller_shares_never_bring_a_channel_back_and_widths_obey_the_rule(
    each: list[int], scope: Scope, round_to: int, parts: int, one: float, other: float, max_ratio: float
) -> None:
    generator = torch.Generator().manual_seed(len(each))
    groups = [
        group(torch.rand(width, generator=generator).tolist(), parts, f"g{i}", str(i % 2))
        for i, width in enumerate(each)
    ]
    limits = rule(scope, round_to, max_ratio)
    less, more = (select(groups, share, limits) for share in sorted((one, other)))
    for found, gone, gone_before in zip(groups, less.gone, more.gone, strict=True):
        assert not (gone_before & ~gone).any()
        kept = found.width - int(gone.sum())
        assert kept >= 1
        assert kept == found.width or kept % math.lcm(round_to, parts) == 0
        assert kept >= found.width * (1 - max_ratio) - 1e-6
        assert gone.view(parts, -1).unique(dim=0).shape[0] == 1


@settings(max_examples=40)
@given(widths, st.integers(1, 9), st.integers(1, 3), st.floats(0, 1), st.floats(0.1, 1), st.data())
def test_moved_widths_obey_the_rule_and_wider_ones_only_bring_channels_back(
    each: list[int], round_to: int, parts: int, keep: float, max_ratio: float, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(len(each))
    groups = [group(torch.rand(width, generator=generator).tolist(), parts) for width in each]
    limits = rule("local", round_to, max_ratio)
    even = select(groups, keep, limits)
    steps = data.draw(st.tuples(*[st.integers(-2, 2)] * len(each)))
    moved = varied(groups, even, steps, limits)
    if moved is None:
        return
    for found, before, after, step in zip(groups, even.gone, moved.gone, steps, strict=True):
        kept = found.width - int(after.sum())
        assert kept == found.width or kept % math.lcm(round_to, parts) == 0
        assert kept >= max(1, found.width * (1 - max_ratio) - 1e-6) or not after.any()
        assert after.view(parts, -1).unique(dim=0).shape[0] == 1
        smaller, larger = (after, before) if step > 0 else (before, after)
        assert not (smaller & ~larger).any()
        assert (int(larger.sum()) > int(smaller.sum())) == (step != 0)


@given(st.floats(0.05, 0.98), st.floats(0.3, 3.5), st.floats(0, 0.02))
def test_the_search_finds_a_target_on_any_smooth_cost(target: float, power: float, floor: float) -> None:
    def cost(share: float) -> float:
        return floor + (1 - floor) * share**power

    calls: list[float] = []
    share = find_share(lambda s: (calls.append(s), cost(s))[1], target, target**0.5)
    assert abs(cost(share) / target - 1) <= 0.02
    assert len(calls) < 20


@given(st.integers(1, 60), st.floats(0.05, 0.95))
def test_on_a_staircase_it_finds_a_step_within_two_percent_or_names_both_neighbours(
    steps: int, target: float
) -> None:
    def cost(share: float) -> float:
        return max(math.floor(share * steps + 0.5), 1) / steps

    reachable = [n / steps for n in range(1, steps + 1)]
    tried: list[float] = []
    found = cost(find_share(lambda share: (tried.append(cost(share)), tried[-1])[1], target, 0.5))
    nearest = min(abs(c / target - 1) for c in reachable)
    if nearest <= 0.02:
        assert abs(found / target - 1) <= 0.02
        return
    assert abs(found / target - 1) == pytest.approx(nearest)
    message = unreachable(tried, target).message
    neighbours = [
        max((c for c in reachable if c <= target), default=None),
        min(c for c in reachable if c > target),
    ]
    assert all(f"{c:.3g}" in message for c in neighbours if c is not None)


def test_a_target_below_the_smallest_model_is_said_with_what_is_left() -> None:
    tried: list[float] = []
    find_share(lambda share: (tried.append(max(share, 0.3)), tried[-1])[1], 0.2, 0.45)
    assert "out of reach: with the smallest widths, 0.3 is left" in unreachable(tried, 0.2).message


@settings(max_examples=60)
@given(st.lists(st.integers(3, 12), min_size=1, max_size=3), st.floats(0.3, 0.95), st.floats(0.1, 3))
def test_the_steps_are_those_that_trying_all_of_them_finds(
    each: list[int], target: float, offset: float
) -> None:
    """On costs like a network's: products of neighbouring widths."""

    def product(left: list[int]) -> float:
        return sum(a * b + offset * b for a, b in zip([3, *left], [*left, 10], strict=True))

    def cost(steps: tuple[int, ...]) -> float | None:
        left = [width // 2 + 1 + step for width, step in zip(each, steps, strict=True)]
        possible = all(1 <= n <= width for n, width in zip(left, each, strict=True))
        return product(left) / product(each) if possible else None

    every = itertools.product(range(-2, 3), repeat=len(each))
    two = [steps for steps in every if sum(map(bool, steps)) <= 2]
    best = min(off(c, target) for steps in two if (c := cost(steps)) is not None)
    found = cost(find_steps(cost, len(each), target))
    assert found is not None
    assert off(found, target) == pytest.approx(best) or off(found, target) <= 0.005
