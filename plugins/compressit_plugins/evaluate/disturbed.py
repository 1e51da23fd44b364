"""Functions that measure a model on noisy and on moved test inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Generator, Tensor, nn

from compressit import CompressitError, StageContext, TensorSpec
from compressit_plugins.evaluate.severities import SHIFTS, column

Change = Callable[[Tensor, Generator], Tensor]
"""Makes of inputs (B, *shape) others, by draws from the generator (of the CPU) that do not depend on the size."""

_AT_ONCE = 2**26  # bytes of inputs that are changed at once


def scores(
    model: nn.Module, ctx: StageContext, noise: Sequence[float], shifts: Sequence[int] | None
) -> dict[str, float]:
    """The watched score for each deviation of `noise` and each of `shifts`; logs a curve of either. What the task does
    not define is left out."""
    spec = ctx.data.contract.inputs
    found: dict[str, float] = {}
    if noise:
        if not isinstance(spec, TensorSpec) or spec.dtype != "float32":
            raise CompressitError(
                f"eval.robustness adds noise to one tensor of floats, and the inputs are {spec}",
                "use `noise: []`",
            )
        found |= _along("noise", noise, lambda size: partial(noisy, ctx, spec, size), model, ctx)
    fitting = _shifts(spec, shifts) if ctx.task.target != "map" else ()
    if fitting:
        assert isinstance(spec, TensorSpec)
        found |= _along("shift", fitting, lambda size: partial(moved, ctx, spec, int(size)), model, ctx)
    return found


def noisy(ctx: StageContext, spec: TensorSpec, size: float, x: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise of this deviation before scaling, on inputs (B, *shape) after it; in the range of the data."""
    draws = torch.randn(x.shape, generator=generator).to(x)
    values = x + draws * size / _row(ctx.data.contract.std, 1.0, x)
    low, high = (None if end is None else _scaled(ctx, end, x) for end in (spec.low, spec.high))
    return values if low is None and high is None else values.clamp(low, high)


def moved(ctx: StageContext, spec: TensorSpec, size: int, x: Tensor, generator: Generator) -> Tensor:
    """Each image of (B, C, H, W) moved by `size` pixels in one of four directions; the lowest value comes in."""
    black = _scaled(ctx, spec.low or 0.0, x)
    direction = torch.randint(4, (len(x),), generator=generator)
    found = black.expand_as(x).clone()
    for at, dim in ((0, 2), (1, 2), (2, 3), (3, 3)):
        chosen = (direction == at).to(x.device).nonzero().flatten()
        kept = x.shape[dim] - size
        there, from_ = (size, 0) if at % 2 else (0, size)
        part = x[chosen].narrow(dim, from_, kept)
        rows = found[chosen]
        rows.narrow(dim, there, kept).copy_(part)
        found[chosen] = rows
    return found


def _along(
    kind: str, sizes: Sequence[float], change: Callable[[float], Change], model: nn.Module, ctx: StageContext
) -> dict[str, float]:
    """The watched score at each size, and its curve from 0, the inputs as they are."""
    watch, y = ctx.task.watch, ctx.data.split("test").y
    found: dict[str, float] = {}
    for size in sorted({0, *sizes}):
        outputs = _outputs(model, ctx, kind, change(size)) if size else ctx.logits(model, "test")
        score = ctx.task.scores(outputs, y).get(watch)
        if score is not None:
            ctx.log(size, **{f"{kind}_{watch}": score})
            found |= {column(kind, size, ctx.task): score} if size else {}
    return found


def _outputs(model: nn.Module, ctx: StageContext, kind: str, change: Change) -> Tensor:
    """The outputs (N, ...) for all test inputs, changed. The draws are the same for every size and every model."""
    split, generator = ctx.data.split("test"), ctx.streams.generator(kind)
    at_once = max(1, min(2048, _AT_ONCE // (4 * prod(split.shape))))
    parts: list[Tensor] = []
    for x, _ in split.ordered(at_once):
        assert isinstance(x, Tensor)
        outputs = ctx.compute.forward(model, change(x, generator))
        ctx.task.check(outputs)
        parts.append(outputs)
    return torch.cat(parts)


def _shifts(spec: object, asked: Sequence[int] | None) -> Sequence[int]:
    """Those that are to be measured. Raises CompressitError for some that were asked for and cannot be."""
    image = isinstance(spec, TensorSpec) and len(spec.shape) == 3 and spec.dtype == "float32"
    side = min(spec.shape[1:]) if isinstance(spec, TensorSpec) and image else 0
    if asked is None:
        return [size for size in SHIFTS if size < side]
    if asked and not image:
        raise CompressitError(
            f"eval.robustness moves images (channels, height, width), and the inputs are {spec}",
            "use `shifts: []`, or leave it out",
        )
    if asked and max(asked) >= side:
        raise CompressitError(
            f"eval.robustness would move images of {side} pixels by {max(asked)}: out of sight",
            "use smaller `shifts`",
        )
    return asked


def _scaled(ctx: StageContext, value: float, x: Tensor) -> Tensor:
    """What a value of the inputs before scaling is after it: of each channel, to go with x (B, C, ...)."""
    contract = ctx.data.contract
    return (value - _row(contract.mean, 0.0, x)) / _row(contract.std, 1.0, x)


def _row(values: Sequence[float] | None, default: float, x: Tensor) -> Tensor:
    numbers = torch.tensor([default] if values is None else list(values), dtype=x.dtype, device=x.device)
    return numbers.view(1, -1, *[1] * (x.ndim - 2))
