"""How a width shrinks."""

from __future__ import annotations

import math


def narrowed(width: int, multiplier: float) -> int:
    """`width * multiplier` rounded up: the rule of the blog post the lab started from (512, 410, 328 …)."""
    return max(1, math.ceil(round(width * multiplier, 9)))  # 50 * 0.14 is 7, not 7.000000000000001 made 8
