"""Checks that a loaded model computes what the saved one did, by its outputs for a fixed input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compressit.checkpoint.limits import Allowance, Budget, ExhaustingError
from compressit.checkpoint.manifest import Probe, affordable
from compressit.datasets.batched import (
    InputTensors,
    built,
    call,
    described,
    specs_in,
    tensors_of,
    whole_range,
)
from compressit.datasets.specs import Inputs, TensorSpec
from compressit.errors import CompressitError
from compressit.seeds import seeded

BATCH = 2
MOST_VALUES = 64
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Fractions of the largest output. In float32, a net differs by 1e-6 between CPUs, a miswired one by more."""
_FLOATING = [getattr(torch, name) for name in TOLERANCE]
_SMALLER = "pass the shape of a smaller input that the network also accepts, for example a crop"
_ON_SAVING = 0.75
"""Fraction of the loading limits: other machines may need a bit more."""
_LEAST_SCALE = 1e-4  # outputs that are exactly zero here may be rounding errors elsewhere


def probe_input(inputs: Inputs, floating: torch.dtype = torch.float32) -> InputTensors:
    """A batch of two. Floats: multiples of 1/128 in [-1, 1), exact in every `floating` dtype, whatever the range says,
    since scaled inputs are not in it. Integers: of the first 256 in their range, 0 or 1 where it has no bounds.

    Drawn from SHAKE-256, because the numbers of torch's generator may change between versions.
    """
    tensors: list[Tensor] = []
    for number, spec in enumerate(specs_in(inputs)):
        count = BATCH * spec.values
        seed = b"compressit probe 1" + (b"" if number == 0 else b" %d" % number)
        stream = bytearray(hashlib.shake_256(seed).digest(max(count, 1)))
        noise = torch.frombuffer(stream, dtype=torch.uint8)[:count].reshape(BATCH, *spec.shape)
        if spec.dtype == "float32":
            tensors.append(noise.float().div_(128).sub_(1).to(floating))
        else:
            low, high = whole_range(spec)
            tensors.append((noise.long() % min(high - low + 1, 256) + low).to(getattr(torch, spec.dtype)))
    return built(inputs, tensors)


def _input(inputs: Inputs, floating: torch.dtype, allowed: Allowance | None) -> InputTensors:
    if allowed is not None:
        sizes = {
            "float32": floating.itemsize + 2,
            "int64": 10,
            "bool": 10,
        }  # made from bytes, which exist meanwhile
        Budget(allowed, sum(BATCH * spec.values * sizes[spec.dtype] for spec in specs_in(inputs)))
    return probe_input(inputs, floating)


Measured = tuple[Probe, InputTensors, list[Tensor]]
"""A probe of a model, its input and all the model's outputs for it."""


def affording(model: nn.Module, inputs: Inputs, file_bytes: int) -> Measured | None:
    """Like `measure`, but halves the input's sides until a forward pass is within the limits for the file.

    None if the model accepts no such input. Raises CompressitError if the model cannot run on `inputs`.
    """
    allowed, shapes = Allowance.running(file_bytes, _ON_SAVING), [spec.shape for spec in specs_in(inputs)]
    smaller = list(shapes)
    while True:
        try:
            probe, x, found = measure(model, _resized(inputs, smaller), allowed)
            of = {"shapes": tuple(smaller)} if smaller != shapes else {}
            return probe.model_copy(update=of), x, found
        except ExhaustingError:
            if all(side <= 1 for shape in smaller for side in shape[1:]):
                return None
            smaller = [
                (*s[:1], *(max(1, side // 2) for side in s[1:])) for s in smaller
            ]  # all except the channels
        except CompressitError:
            if smaller == shapes:
                raise
            return None


def _resized(inputs: Inputs, shapes: Sequence[tuple[int, ...]]) -> Inputs:
    changed = [replace(spec, shape=shape) for spec, shape in zip(specs_in(inputs), shapes, strict=True)]
    if isinstance(inputs, TensorSpec):
        return changed[0]
    return tuple(changed) if isinstance(inputs, tuple) else dict(zip(inputs, changed, strict=True))


def measure(model: nn.Module, inputs: Inputs, allowed: Allowance | None = None) -> Measured:
    """The probe of a CPU model in eval mode, its input (floats in the model's own dtype) and all its outputs.

    Raises CompressitError if the model does not run on it or it has too many values, ExhaustingError if a forward pass
    exceeds `allowed`.
    """
    try:
        affordable(*(spec.shape for spec in specs_in(inputs)))
    except ValueError as error:
        raise CompressitError(f"cannot record outputs for {error}", _SMALLER) from error
    floating = next((p.dtype for p in model.parameters() if p.dtype in _FLOATING), torch.float32)
    x = _input(inputs, floating, allowed)
    found = outputs(model, x, allowed)
    probe = Probe(
        dtype=_name(floating),
        output_shape=tuple(found[0].shape),
        values=tuple(_sample(found[0])),
        tolerance=TOLERANCE[_name(floating)],
    )
    return probe, x, found


def check(model: nn.Module, probe: Probe, inputs: Inputs, allowed: Allowance | None, doubt: str) -> None:
    """Raises CompressitError, with the deviation, unless the model's outputs match the recorded ones.

    `inputs`: what the model takes. `doubt`: the likely reason for a mismatch, for the hint. Raises ExhaustingError
    if a forward pass exceeds `allowed`.
    """
    dtype = next((d for d in _FLOATING if _name(d) == probe.dtype), None)
    if dtype is None:
        raise CompressitError(f"the recorded probe has the unknown dtype {probe.dtype!r}")
    if probe.shapes is not None:
        if len(probe.shapes) != len(specs_in(inputs)):
            raise CompressitError("the recorded probe has another number of tensors than the model's inputs")
        inputs = _resized(inputs, probe.shapes)
    output = outputs(model, _input(inputs, dtype, allowed), allowed)[0]
    got, wanted = _sample(output), probe.values
    if tuple(output.shape) != probe.output_shape or len(got) != len(wanted):
        shapes = f"{tuple(output.shape)}, not {probe.output_shape}"
        raise CompressitError(f"the loaded model's outputs differ in shape from the recorded ones: {shapes}")
    scale = max((abs(v) for v in wanted if v is not None), default=0.0)
    limit = probe.tolerance * max(scale, _LEAST_SCALE)
    worst = max((_distance(g, w) for g, w in zip(got, wanted, strict=True)), default=0.0)
    if not worst <= limit:
        raise CompressitError(
            f"the loaded model's outputs are off by up to {worst:.3g}, where {limit:.3g} is allowed "
            f"(its largest recorded output is {scale:.3g})",
            f"{doubt}; `load(path, probe=False)` loads it anyway",
        )


def outputs(model: nn.Module, x: InputTensors, allowed: Allowance | None = None) -> list[Tensor]:
    """Every output tensor, computed without gradients or autocast and from a fixed random state.

    Raises CompressitError if the model fails or outputs no tensor, ExhaustingError before it exceeds `allowed`.
    """
    try:
        there = sum(tensor.nbytes for tensor in tensors_of(x))
        counted = _counted(allowed, there) if allowed is not None else nullcontext()
        device = tensors_of(x)[0].device.type
        with quiet(), torch.no_grad(), torch.autocast(device, enabled=False), counted:
            found = list(_tensors(call(model, x)))
    except ExhaustingError:
        raise
    except Exception as error:
        raise CompressitError(
            f"the model does not run on {described(x)}: {type(error).__name__}: {error}"
        ) from error
    if not found:
        raise CompressitError("the model's output contains no tensor")
    return found


@contextmanager
def _counted(allowed: Allowance, there: int) -> Generator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a single call: its attention scores cannot be counted
    try:
        with Budget(allowed, there):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def quiet(seed: int = 0) -> AbstractContextManager[None]:
    """A block in which the global generators start from `seed`; afterwards their state is restored."""
    return seeded(seed)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _sample(output: Tensor) -> list[float | None]:
    flat = output.detach().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    step = max(1, math.ceil(flat.numel() / MOST_VALUES))
    return [v if math.isfinite(v) else None for v in flat[::step].float().tolist()]


def _distance(got: float | None, wanted: float | None) -> float:
    if got is None or wanted is None:
        return 0.0 if got is wanted else math.inf
    return abs(got - wanted)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
