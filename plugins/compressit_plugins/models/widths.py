"""The rule that makes a width smaller."""

from __future__ import annotations

import math


def narrowed(width: int, multiplier: float) -> int:
    """`width * multiplier` rounded up, as in the blog post that the lab started from (512, 410, 328 …)."""
    return max(1, math.ceil(round(width * multiplier, 9)))  # 50 * 0.14 gives 7.000000000000001: 7, not 8
