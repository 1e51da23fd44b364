"""Batches of inputs: one tensor, a tuple or a dict of them. How a model is called, and what is done to each tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from compressit.datasets.specs import Inputs, TensorSpec
from compressit.errors import CompressitError

InputTensors: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""Inputs of a batch: each tensor is (B, *shape) of its spec."""


def call(model: Callable[..., Any], inputs: InputTensors) -> Any:
    """The model's outputs: `model(x)` for a tensor, `model(*x)` for a tuple, `model(**x)` for a dict."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(**inputs)


def each_tensor(inputs: InputTensors, change: Callable[[Tensor], Tensor]) -> InputTensors:
    """The same structure, with every tensor changed."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, tuple):
        return tuple(map(change, inputs))
    return {name: change(tensor) for name, tensor in inputs.items()}


def ordered_as(inputs: InputTensors, like: Inputs | InputTensors) -> InputTensors:
    """Named tensors in the order of `like`, which has the same names; others as they are."""
    if isinstance(inputs, dict) and isinstance(like, dict) and inputs.keys() == like.keys():
        return {name: inputs[name] for name in like}
    return inputs


def picked(inputs: InputTensors, index: Tensor) -> InputTensors:
    """The examples at `index` (B,) int64."""
    if isinstance(inputs, Tensor):
        return inputs.index_select(0, index)
    return each_tensor(inputs, lambda tensor: tensor.index_select(0, index))


def tensors_of(inputs: InputTensors) -> tuple[Tensor, ...]:
    """All tensors, in the order of the specs."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    return inputs if isinstance(inputs, tuple) else tuple(inputs.values())


def examples_in(inputs: InputTensors) -> int:
    """The number of examples."""
    return tensors_of(inputs)[0].shape[0]


def joined(parts: Sequence[InputTensors]) -> InputTensors:
    """Batches of one structure as one batch."""
    return built(parts[0], [torch.cat(tensors) for tensors in zip(*map(tensors_of, parts), strict=True)])


def built(like: Inputs | InputTensors, tensors: Sequence[Tensor]) -> InputTensors:
    """These tensors in the structure of `like`: the inverse of `tensors_of`."""
    if isinstance(like, Tensor | TensorSpec):
        return tensors[0]
    return tuple(tensors) if isinstance(like, tuple) else dict(zip(like, tensors, strict=True))


def shapes(inputs: InputTensors) -> Any:
    """The shape of one input, without the batch; of several in their structure."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    if isinstance(inputs, tuple):
        return tuple(tuple(tensor.shape[1:]) for tensor in inputs)
    return {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}


def only(inputs: InputTensors, what: str) -> Tensor:
    """The inputs of a model that takes one tensor of floats. Raises CompressitError for others: `what` needs such."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs
    raise CompressitError(
        f"{what} takes one tensor of floats, and these are {described(inputs)}",
        "use another method, or data with one such input",
    )


def volume(shape: Any) -> int:
    """How many values one input of what `shapes` gives has."""
    several = (
        shape.values() if isinstance(shape, dict) else shape if shape and type(shape[0]) is tuple else [shape]
    )
    return sum(map(math.prod, several))


def described(inputs: InputTensors) -> str:
    """In words: `inputs of shape (2, 3)`, or of several shapes, and integers as such."""

    def of(tensor: Tensor) -> str:
        kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
        return f"{tuple(tensor.shape)}{kind}"

    if isinstance(inputs, dict):
        return "inputs of shape " + ", ".join(f"{name} {of(tensor)}" for name, tensor in inputs.items())
    return "inputs of shape " + ", ".join(map(of, tensors_of(inputs)))


def zero_inputs(
    inputs: Inputs, examples: int, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> InputTensors:
    """Inputs of floats that are zero, of this `dtype`, and of the least integers in their range."""

    def of(spec: TensorSpec) -> Tensor:
        kind = dtype if spec.dtype == "float32" else getattr(torch, spec.dtype)
        value = 0 if spec.dtype == "float32" else whole_range(spec)[0]
        return torch.full((examples, *spec.shape), value, dtype=kind, device=device)

    return built(inputs, [of(spec) for spec in specs_in(inputs)])


def random_inputs(inputs: Inputs, examples: int, generator: torch.Generator | None = None) -> InputTensors:
    """Random inputs on the CPU: floats uniform in [0, 1), integers uniform in their range, true or false."""

    def of(spec: TensorSpec) -> Tensor:
        shape = (examples, *spec.shape)
        if spec.dtype == "float32":
            return torch.rand(shape, generator=generator)
        low, high = whole_range(spec)
        return torch.randint(low, high + 1, shape, generator=generator).to(getattr(torch, spec.dtype))

    return built(inputs, [of(spec) for spec in specs_in(inputs)])


def specs_in(inputs: Inputs) -> tuple[TensorSpec, ...]:
    """All specs, in order."""
    if isinstance(inputs, TensorSpec):
        return (inputs,)
    return inputs if isinstance(inputs, tuple) else tuple(inputs.values())


def whole_range(spec: TensorSpec) -> tuple[int, int]:
    """The least and the greatest of some whole numbers in the spec's range; 0 and 1 where it has no bounds."""
    low = spec.low if spec.low is not None else min(0, spec.high - 1) if spec.high is not None else 0
    high = spec.high if spec.high is not None else low + 1
    return int(low), int(high)
