"""What an evaluator can give: numbers, curves, pictures, arrays and files. It declares each before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """How to read one number of an evaluator."""

    better: Literal["higher", "lower", "neither"]
    unit: str  # "fraction", "bits", "bytes", "seconds", "count"
    about: str = ""


COSTS = ("count", "bytes", "seconds")
"""Units of metrics that can be a cost, where lower is better."""


def is_cost(name: str, better: str, unit: str) -> bool:
    """Whether a number says what a model costs, and not what it is worth or how much a measurement spreads."""
    return better == "lower" and unit in COSTS and not name.endswith("iqr_seconds")


@dataclass(frozen=True)
class Curve:
    """Points that an evaluator logs with `ctx.log(x, name=y)`. At most 200 are kept, evenly chosen, with both ends."""

    x: str  # what the steps are, with a unit: "share of the way"
    y: str  # what the values are, with a unit: "cross-entropy (nats)"
    about: str = ""


@dataclass(frozen=True)
class Picture:
    """An image that an evaluator gives to `ctx.picture(name, image)`; kept as a PNG file."""

    about: str = ""


@dataclass(frozen=True)
class Array:
    """Numbers that an evaluator gives to `ctx.save(name, array)`; any shape, booleans, integers or floats."""

    about: str = ""
    axes: tuple[str, ...] = ()  # what each dimension is; empty: any number of dimensions


@dataclass(frozen=True)
class File:
    """Bytes that an evaluator gives to `ctx.keep(name, content)`, for other programs; `name` is the file's, with its
    ending: "net.onnx"."""

    about: str = ""


Declared = Metric | Curve | Picture | Array | File


def column(called: str, name: str) -> str:
    """What the results call something that an evaluator declares as `name`. `called`: what the recipe calls that
    evaluator by `as`, "" without it."""
    return f"{called}_{name}" if called else name
