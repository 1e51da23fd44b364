"""What a search says: short lines that stand below each other."""

from __future__ import annotations

from compressit.searching.told import Words
from compressit.searching.trials import Goal, Original, Trial, Tried

GOAL = Goal("macs", "validation_accuracy", 0.01)
TRIED = Tried(
    (
        Trial(0, "half", {"keep": 0.5}, 12_345, 0.95, 0.02),
        Trial(1, "a-name-that-has-no-end-and-no-space-in-it", {"keep": 0.9}, 98_765, 0.965, 0.005),
        Trial(2, "half", {"keep": 0.6}, 99_000, 0.94, 0.03),  # costs more than the first and lost more
        Trial(3, "half", {"keep": 0.1}, failed="it broke"),
    ),
    {name: Original(100_000, 0.97) for name in ("half", "a-name-that-has-no-end-and-no-space-in-it")},
)


def test_the_front_is_a_table_of_short_lines() -> None:
    head, cheapest, best = Words(GOAL, TRIED).front()
    assert head.split() == [
        "front",
        "(*",
        "lost",
        "at",
        "most",
        "1.00",
        "points)",
        "macs",
        "validation_accuracy",
        "lost",
    ]
    assert cheapest.startswith("trial 0 half  ")
    assert "8.1 times less" in cheapest
    assert best.startswith("trial 1 a-name-that-has-no-end-… *  "), "only what lost no more has a star"
    for cost, line in (("12\u202f345", cheapest), ("98\u202f765", best)):
        assert line.index(cost) + len(cost) == head.index("macs") + len("macs"), (
            "numbers end below their head"
        )
    assert cheapest.endswith("2.00 points")
    assert max(map(len, (head, cheapest, best))) <= 120


def test_an_empty_front_is_its_head_alone() -> None:
    assert len(Words(GOAL, Tried()).front()) == 1
