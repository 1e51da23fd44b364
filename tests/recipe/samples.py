"""What the recipe tests share."""

from __future__ import annotations

from collections.abc import Callable

from compressit.errors import Problem
from compressit.recipe.model import Recipe

BASE = """\
version: 1
name: demo
data: {uses: data.fake}
model: {uses: model.fake}
stages:
  fit: {uses: train.fake}
"""

UNTIL_STAGES = BASE.replace("  fit: {uses: train.fake}\n", "")
"""The first stage goes on line 6."""

Parse = Callable[..., Recipe]
Problems = Callable[..., list[Problem]]


def told(problems: list[Problem]) -> list[str]:
    """The first line of every problem: `file:line:column: message`."""
    return [str(problem).split("\n")[0] for problem in problems]
