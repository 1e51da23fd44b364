"""Sorts what needs each other: the stages of a variant, and those of all variants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def sorted_by_need(needs: Mapping[T, Collection[T]]) -> list[T]:
    """The keys in their order, except that each comes after those it needs. Those of a circle, and what needs them,
    are left out. What is no key is there already."""
    waiting = dict(needs)
    found: list[T] = []
    while True:
        ready = (key for key, wanted in waiting.items() if not any(need in waiting for need in wanted))
        for key in ready:
            found.append(key)
            del waiting[key]
            break
        else:
            return found


def circle_in(needs: Mapping[T, Collection[T]]) -> Sequence[T]:
    """One circle among keys that all wait for another. It starts at its first key."""
    walked = [next(iter(needs))]
    while True:
        following = next(wanted for wanted in needs[walked[-1]] if wanted in needs)
        if following in walked:
            circle = walked[walked.index(following) :]
            start = circle.index(min(circle, key=list(needs).index))
            return [*circle[start:], *circle[:start]]
        walked.append(following)
