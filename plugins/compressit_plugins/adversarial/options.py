"""What evaluators that attack have in common: options, names of columns, estimates."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import Field

from compressit import Config, Work

Sizes = tuple[Annotated[float, Field(gt=0)], ...]


class SearchConfig(Config):
    """How a ball is searched."""

    steps: int = Field(40, ge=1, description="steps of a search by projected gradient descent")
    step: float = Field(
        0.1,
        gt=0,
        description="size of a step, as a fraction of the ball's radius; the first ones reach its border",
    )
    random_start: bool = Field(
        True, description="whether a search starts anywhere in the ball, not at the input"
    )
    restarts: int = Field(
        1, ge=1, description="searches, each from a start of its own; one that succeeds counts"
    )


def told(size: float) -> str:
    """`0_25` of 0.25: part of a column's name, with all digits, so that two sizes never have one name."""
    return re.sub(r"\W", "_", str(size).removesuffix(".0"))


def work(images: int, passes: int, at_once: int = 256) -> Work:
    """That of so many passes, forward and backward, of so many images."""
    return Work(passes * math.ceil(images / at_once), min(images, at_once))
