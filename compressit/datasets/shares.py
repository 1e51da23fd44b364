"""Division of a whole number in proportion."""

from __future__ import annotations

from collections.abc import Sequence


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Parts of `total` in proportion to `sizes`, by largest remainders; of equal ones the first. They sum to `total`,
    and none is above its size, where `total` is at most the sum of `sizes`."""
    whole = max(sum(sizes), 1)
    found = [total * size // whole for size in sizes]
    largest = sorted(range(len(sizes)), key=lambda at: -(total * sizes[at] % whole))  # stable
    for at in largest[: total - sum(found)]:
        found[at] += 1
    return found
