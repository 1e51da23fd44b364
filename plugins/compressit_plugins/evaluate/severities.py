"""How strongly test inputs are changed by default, and what the columns are called."""

from __future__ import annotations

import re
from typing import Any

from compressit import Task

SHIFTS = (1, 2, 4)
"""Pixels by which images are moved where the options do not say."""


def column(kind: str, size: float, task: Task[Any]) -> str:
    """`noise_0_18_accuracy`, `shift_2_rmse`: all digits, so that two sizes never have one name."""
    return re.sub(r"\W", "_", f"{kind}_{told(size)}_{task.watch}")


def told(size: float) -> str:
    """`0.18`, `2`."""
    return str(size).removesuffix(".0")
