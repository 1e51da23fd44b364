"""Checks that a loaded model computes what the saved one did, by its outputs for a fixed input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from compressit.checkpoint.limits import Allowance, Budget, ExhaustingError
from compressit.checkpoint.manifest import Probe, affordable
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


def probe_input(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """(2, *shape): multiples of 1/128 in [-1, 1), exact in every floating dtype; 0 or 1 in integer dtypes.

    Drawn from SHAKE-256, because the numbers of torch's generator may change between versions.
    """
    count = BATCH * math.prod(shape)
    stream = bytearray(hashlib.shake_256(b"compressit probe 1").digest(max(count, 1)))
    noise = torch.frombuffer(stream, dtype=torch.uint8)[:count].reshape(BATCH, *shape)
    return noise.float().div_(128).sub_(1).to(dtype) if dtype.is_floating_point else (noise % 2).to(dtype)


def _input(shape: Sequence[int], dtype: torch.dtype, allowed: Allowance | None) -> Tensor:
    if allowed is not None:
        values = BATCH * math.prod(shape)
        Budget(allowed, values * (dtype.itemsize + 2))  # made from bytes, which exist twice meanwhile
    return probe_input(shape, dtype)


Measured = tuple[Probe, Tensor, list[Tensor]]
"""A probe of a model, its input and all the model's outputs for it."""


def affording(model: nn.Module, shape: Sequence[int], file_bytes: int) -> Measured | None:
    """Like `measure`, but halves the input's sides until a forward pass is within the limits for the file.

    None if the model accepts no such input. Raises CompressitError if the model cannot run on `shape`.
    """
    allowed, smaller = Allowance.running(file_bytes, _ON_SAVING), tuple(shape)
    while True:
        try:
            probe, x, found = measure(model, smaller, allowed)
            of = {"input_shape": smaller} if smaller != tuple(shape) else {}
            return probe.model_copy(update=of), x, found
        except ExhaustingError:
            if all(side <= 1 for side in smaller[1:]):
                return None
            smaller = (*smaller[:1], *(max(1, side // 2) for side in smaller[1:]))  # all except the channels
        except CompressitError:
            if smaller == tuple(shape):
                raise
            return None


def measure(model: nn.Module, shape: Sequence[int], allowed: Allowance | None = None) -> Measured:
    """The probe of a CPU model in eval mode, its input and all its outputs.

    Tries inputs in the model's own floating dtype, then as integers (token models). Raises CompressitError if the
    model runs on neither or the input has too many values, ExhaustingError if a forward pass exceeds `allowed`.
    """
    try:
        affordable(tuple(shape))
    except ValueError as error:
        raise CompressitError(f"cannot record outputs for {error}", _SMALLER) from error
    floating = next((p.dtype for p in model.parameters() if p.dtype in _FLOATING), torch.float32)
    failure: CompressitError | None = None
    for dtype in (floating, torch.int64):
        try:
            x = _input(shape, dtype, allowed)
            found = outputs(model, x, allowed)
        except ExhaustingError:
            raise
        except CompressitError as error:
            failure = failure or error
            continue
        probe = Probe(
            dtype=_name(dtype),
            output_shape=tuple(found[0].shape),
            values=tuple(_sample(found[0])),
            tolerance=TOLERANCE[_name(floating)],
        )
        return probe, x, found
    assert failure is not None
    raise failure


def check(
    model: nn.Module, probe: Probe, shape: Sequence[int], allowed: Allowance | None, doubt: str
) -> None:
    """Raises CompressitError, with the deviation, unless the model's outputs match the recorded ones.

    `shape`: the model's input shape. `doubt`: the likely reason for a mismatch, for the hint. Raises ExhaustingError
    if a forward pass exceeds `allowed`.
    """
    dtype = next((d for d in (*_FLOATING, torch.int64) if _name(d) == probe.dtype), None)
    if dtype is None:
        raise CompressitError(f"the recorded probe has the unknown dtype {probe.dtype!r}")
    output = outputs(model, _input(probe.input_shape or shape, dtype, allowed), allowed)[0]
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


def outputs(model: nn.Module, x: Tensor, allowed: Allowance | None = None) -> list[Tensor]:
    """Every output tensor, computed without gradients or autocast and from a fixed random state.

    Raises CompressitError if the model fails or outputs no tensor, ExhaustingError before it exceeds `allowed`.
    """
    try:
        counted = _counted(allowed, x.nbytes) if allowed is not None else nullcontext()
        with quiet(), torch.no_grad(), torch.autocast(x.device.type, enabled=False), counted:
            found = list(_tensors(model(x)))
    except ExhaustingError:
        raise
    except Exception as error:
        raise CompressitError(
            f"the model does not run on an input of shape {tuple(x.shape)}: {type(error).__name__}: {error}"
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
