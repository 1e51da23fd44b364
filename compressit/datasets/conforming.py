"""Whether loaded inputs are what their specs say: the same tensors, of their shapes, types and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from compressit.datasets.batched import InputTensors, built, ordered_as, shapes, specs_in, tensors_of
from compressit.datasets.sources import CALLED, Examples, Sources, inputs_of, shape_of
from compressit.datasets.specs import Inputs, TensorSpec, as_inputs, span, specs_of
from compressit.errors import CompressitError
from compressit.formatting import counted

_RANGE = (
    "leave scaling to the option `scale`; or say which range they have: data.tensors by `ranges`, others by "
    "TensorSpec(shape, low=-3.0, high=3.0), with None for no bound"
)
_FINITE = "leave these examples out, or replace the values"
_TYPE = "give tensors of this type, or declare another"


def conformed(sources: Sources, inputs: Inputs, name: str) -> Sources:
    """The sources, with whole numbers and booleans in the types declared.

    Raises CompressitError for examples that differ from `inputs`, with the values that are outside. `name`: of the
    dataset. What a Source reads is checked as it is read.
    """
    found: dict[str, Examples] = {}
    for split, examples in sources.given().items():
        if (shape := shape_of(examples)) != (declared := _shape(inputs)):
            raise CompressitError(
                f"{name} loaded {split} inputs {shape}, but declares {declared}",
                "every split has inputs of the same names and shapes: change them, or what is declared (`inputs`)",
            )
        found[split] = examples
        if isinstance(examples, tuple):
            x, y = ordered_as(examples[0], inputs), examples[1]
            for tensor, (called, spec) in zip(tensors_of(x), specs_of(inputs).items(), strict=True):
                if fault := tensor_fault(tensor, spec):
                    which = "inputs" if isinstance(inputs, TensorSpec) else f"inputs '{called}'"
                    raise CompressitError(f"{name}: the {CALLED[split]} {which} {fault[0]}", fault[1])
            found[split] = taken(x, inputs), y
    return Sources(**found)


def tensor_fault(x: Tensor, spec: TensorSpec) -> tuple[str, str] | None:
    """What is wrong with the type or the values of a tensor, whatever its shape (`go from -3 to 7, not 0..1`), and what
    to do."""
    if not _of_kind(x, spec):
        return f"are {x.dtype}, not {spec.dtype}", _TYPE
    if (
        x.dtype in (torch.uint8, torch.bool) and spec.dtype != "int64"
    ):  # bytes count as 0..255 of the range 0..1
        return None
    if not x.numel():
        return None
    low, high = (value.item() for value in (x.detach().float() if x.is_floating_point() else x).aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        wrong = x.numel() - int(x.detach().float().isfinite().sum())
        return f"are not finite: NaN or infinity is {wrong:,} of their {counted(x.numel(), 'value')}", _FINITE
    if (spec.low is None or low >= spec.low) and (spec.high is None or high <= spec.high):
        return None
    return f"go from {low:g} to {high:g}, not {span(spec)}", _RANGE


def taken(x: InputTensors, inputs: Inputs) -> InputTensors:
    """The tensors, with whole numbers as int64."""
    pairs = zip(tensors_of(x), specs_in(inputs), strict=True)
    return built(x, [tensor.long() if spec.dtype == "int64" else tensor for tensor, spec in pairs])


def inferred(sources: Sources) -> Inputs:
    """What inputs seem to be: bytes and floats pixels in 0..1, whole numbers in the range that occurs."""
    first = inputs_of(sources.train)
    known = [ordered_as(inputs_of(examples), first) for examples in sources.given().values()]
    if len({len(tensors_of(inputs)) for inputs in known}) > 1:
        raise CompressitError("the splits have different numbers of inputs", "give each the same inputs")
    specs = [_inferred(tensors) for tensors in zip(*map(tensors_of, known), strict=True)]
    if isinstance(first, Tensor):
        return specs[0]
    return as_inputs(specs if isinstance(first, tuple) else dict(zip(first, specs, strict=True)))


def _inferred(tensors: Iterable[Tensor]) -> TensorSpec:
    """Of the same tensor in every split."""
    several = list(tensors)
    shape, dtype = tuple(several[0].shape[1:]), several[0].dtype
    if dtype == torch.bool:
        return TensorSpec(shape, "bool")
    if dtype == torch.uint8 or dtype.is_floating_point:
        return TensorSpec(shape)
    bounds = [bound.item() for tensor in several for bound in tensor.aminmax()]
    return TensorSpec(shape, "int64", min(bounds), max(bounds))


def _of_kind(x: Tensor, spec: TensorSpec) -> bool:
    if spec.dtype == "float32":
        return x.is_floating_point() or x.dtype == torch.uint8
    whole = not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)
    return x.dtype == torch.bool if spec.dtype == "bool" else whole


def _shape(inputs: Inputs) -> object:
    return shapes(built(inputs, [torch.empty(0, *spec.shape) for spec in specs_in(inputs)]))
