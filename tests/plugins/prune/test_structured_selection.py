"""Which channels go, on made-up groups; and the search for a cost, on made-up costs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressit.errors import CompressitError
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.selection import Rule, Scope, select
from compressit_plugins.prune.target import find_share


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
    nearest = min(abs(c / target - 1) for c in reachable)
    if nearest <= 0.02:
        assert abs(cost(find_share(cost, target, 0.5)) / target - 1) <= 0.02
        return
    with pytest.raises(CompressitError) as error:
        find_share(cost, target, 0.5)
    neighbours = [
        max((c for c in reachable if c <= target), default=None),
        min(c for c in reachable if c > target),
    ]
    assert all(f"{c:.3g}" in error.value.message for c in neighbours if c is not None)
    assert abs(cost(find_share(cost, target, 0.5, strict=False)) / target - 1) == pytest.approx(nearest)


def test_a_target_below_the_smallest_model_is_said_with_what_is_left() -> None:
    with pytest.raises(CompressitError, match=r"out of reach: .* 0\.3 is left"):
        find_share(lambda share: max(share, 0.3), 0.2, 0.45)
