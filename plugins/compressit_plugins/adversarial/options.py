"""What evaluators that attack have in common: options, names of columns, estimates."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

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


class AdversarialConfig(SearchConfig):
    """Options of `eval.adversarial`. Sizes are in units of the inputs before scaling: of pixels in 0..1."""

    images: int = Field(1000, ge=1, description="test examples, evenly spaced; all if there are fewer")
    norm: Literal["linf", "l2"] = Field(
        "linf",
        description="what `fgsm` and `pgd` bound: the change of every value, or the Euclidean length of the change",
    )
    fgsm: Sizes = Field((0.25,), description="sizes of changes by one step along the gradient")
    pgd: Sizes = Field((0.1, 0.3), description="largest changes found by projected gradient descent")
    nearest: int = Field(
        100,
        ge=0,
        description="steps of the search for the nearest wrongly answered input, by Euclidean distance; 0: none",
    )
    bound: float = Field(
        0.1,
        gt=0,
        description="root mean square of a change, over the values of an input, up to which the search for the nearest "
        "counts as a success",
    )
    target: int | str | None = Field(
        None,
        description="a class, by its label or name, that all attacks want as the answer; default: any wrong one",
    )
    pictures: int = Field(6, ge=0, le=20, description="examples that the picture shows")

    @field_validator("fgsm", "pgd")
    @classmethod
    def _differ(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(sizes)) != len(sizes):
            raise ValueError("must differ from each other")
        return tuple(sorted(sizes))

    def sizes(self) -> list[float]:
        """All sizes, ascending."""
        return sorted({*self.fgsm, *self.pgd})


class CriticalSamplesConfig(SearchConfig):
    """Options of `eval.critical_samples`."""

    split: Literal["train", "validation", "test"] = Field("train", description="which examples are measured")
    images: int = Field(1000, ge=1, description="how many, evenly spaced; all if there are fewer")
    radii: Sizes = Field(
        (0.1,),
        min_length=1,
        description="half sides of the box around an input, in its units before scaling: of pixels in 0..1",
    )

    @field_validator("radii")
    @classmethod
    def _differ(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(radii)) != len(radii):
            raise ValueError("must differ from each other")
        return tuple(sorted(radii))


def told(size: float) -> str:
    """`0_25` of 0.25: part of a column's name, with all digits, so that two sizes never have one name."""
    return re.sub(r"\W", "_", str(size).removesuffix(".0"))


def work(images: int, passes: int, at_once: int = 256) -> Work:
    """That of so many passes, forward and backward, of so many images."""
    return Work(passes * math.ceil(images / at_once), min(images, at_once))
