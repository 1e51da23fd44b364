"""What one input of a model is: tensors' shapes, types and ranges. Does not import torch."""

from __future__ import annotations

import keyword
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from compressit.errors import CompressitError, did_you_mean

Kind = Literal["float32", "int64", "bool"]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an input: its shape without the batch, its type, and the range of its values.

    `dtype`: "float32" (for uint8 images too, which count as 0..255 of the range 0..1), "int64" (token ids, categories)
    or "bool". `low` and `high` are the least and the greatest value, None where there is no bound; the option `scale`
    is applied afterwards. Raises CompressitError for anything else.
    """

    shape: tuple[int, ...]
    dtype: Kind = "float32"
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        shape: Any = self.shape
        if not isinstance(shape, list | tuple) or any(type(side) is not int or side < 0 for side in shape):
            raise CompressitError(
                f"TensorSpec: the shape is {shape!r}", "give whole numbers without the batch: (1, 28, 28)"
            )
        object.__setattr__(self, "shape", tuple(shape))
        if self.dtype not in get_args(Kind):
            raise CompressitError(
                f"TensorSpec: the dtype is {self.dtype!r}", did_you_mean(str(self.dtype), get_args(Kind))
            )
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise CompressitError(
                f"TensorSpec: low is {self.low} and high {self.high}", "low is the least value that occurs"
            )

    @property
    def values(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """`(1, 28, 28)`; `(16,) int64 in 0..99`: what differs from pixels in 0..1 is in_words."""
        kind = "" if self.dtype == "float32" else f" {self.dtype}"
        usual = self.dtype == "bool" or (self.dtype == "float32" and (self.low, self.high) == (0, 1))
        return f"{self.shape}{kind}" + ("" if usual else f" in {span(self)}")


Inputs: TypeAlias = TensorSpec | tuple[TensorSpec, ...] | dict[str, TensorSpec]
"""What a model takes: one tensor, called as `model(x)`; several, `model(*x)`; or named ones, `model(**x)`."""


def as_inputs(given: Any) -> Inputs:
    """Checked inputs, named ones in the order of their names; a shape alone stands for a TensorSpec of pixels.

    Raises CompressitError for anything else.
    """
    if isinstance(given, TensorSpec):
        return given
    if isinstance(given, Mapping) and given:
        if wrong := [name for name in given if not (isinstance(name, str) and _is_parameter(name))]:
            raise CompressitError(
                f"an input is named {wrong[0]!r}", "names are those of the model's parameters: {'image': …}"
            )
        if all(isinstance(spec, TensorSpec) for spec in given.values()):
            return {name: given[name] for name in sorted(given)}
    elif isinstance(given, Sequence) and not isinstance(given, str):
        if given and all(isinstance(spec, TensorSpec) for spec in given):
            return tuple(given)
        if all(type(side) is int for side in given):
            return TensorSpec(tuple(given))
    raise CompressitError(
        f"inputs are {given!r}",
        "give a compressit.TensorSpec((1, 28, 28)), or a tuple or dict of them for several inputs",
    )


def specs_of(inputs: Inputs) -> dict[str, TensorSpec]:
    """Every tensor's, by its name: "input"; "input_0", "input_1" …; or the names given."""
    if isinstance(inputs, TensorSpec):
        return {"input": inputs}
    if isinstance(inputs, dict):
        return inputs
    return {f"input_{number}": spec for number, spec in enumerate(inputs)}


def values_of(inputs: Inputs) -> int:
    """How many values one input has, in all its tensors."""
    return sum(spec.values for spec in specs_of(inputs).values())


def single_tensor(inputs: Inputs, what: str) -> TensorSpec:
    """The spec of a model's only tensor, of floats. Raises CompressitError for other inputs: `what` needs one."""
    if isinstance(inputs, TensorSpec) and inputs.dtype == "float32":
        return inputs
    raise CompressitError(
        f"{what} takes one tensor of floats, and the inputs are {in_words(inputs)}",
        "use another method, or data with one such input",
    )


def in_words(inputs: Inputs) -> str:
    """In words: `(1, 28, 28)`; `ids (16,) int64 in 0..99 and mask (16,)`."""
    if isinstance(inputs, TensorSpec):
        return str(inputs)
    return " and ".join(f"{name} {spec}" for name, spec in specs_of(inputs).items())


def span(spec: TensorSpec) -> str:
    """`0..1`, `-3..`, `..5`, `any range`."""
    if spec.low is None and spec.high is None:
        return "any range"
    return "..".join("" if bound is None else f"{bound:g}" for bound in (spec.low, spec.high))


def within(inner: Inputs, outer: Inputs) -> bool:
    """Whether a model for the inputs `outer` takes `inner`: the same tensors, with values in its ranges."""
    ours, theirs = specs_of(inner), specs_of(outer)
    return (
        type(inner) is type(outer)
        and ours.keys() == theirs.keys()
        and all(_inside(spec, theirs[name]) for name, spec in ours.items())
    )


def to_json(inputs: Inputs) -> Any:
    """As JSON values: an object; a list of them; or an object of them by name."""
    if isinstance(inputs, TensorSpec):
        return {"shape": list(inputs.shape), "dtype": inputs.dtype, "low": inputs.low, "high": inputs.high}
    if isinstance(inputs, dict):
        return {name: to_json(spec) for name, spec in inputs.items()}
    return [to_json(spec) for spec in inputs]


def from_json(values: Any) -> Inputs:
    """The inverse of `to_json`."""
    if isinstance(values, list):
        return tuple(TensorSpec(**spec) for spec in values)
    if isinstance(values.get("shape"), list):
        return TensorSpec(**values)
    return {name: TensorSpec(**spec) for name, spec in values.items()}


def _is_parameter(name: str) -> bool:
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name)


def _inside(inner: TensorSpec, outer: TensorSpec) -> bool:
    low = outer.low is None or (inner.low is not None and inner.low >= outer.low)
    high = outer.high is None or (inner.high is not None and inner.high <= outer.high)
    return (inner.shape, inner.dtype) == (outer.shape, outer.dtype) and low and high
