"""Chooses the smallest weights, zeroes them, and trains with the zeros kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from compressit import FitConfig, NoEffectError, StageContext, fit, keeping_zeros
from compressit_plugins.prune.shares import divided
from compressit_plugins.prune.weights import select_weights

_CHUNK = 1 << 20  # weights processed at a time
_NAN = 0x7F800001  # the bits of infinity, plus one


def prune_smallest(
    model: nn.Module,
    sparsity: float,
    scope: Literal["global", "layer"] = "global",
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    also: Sequence[str] = (),
    chance: torch.Generator | None = None,
    sparsities: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Zeroes the smallest weights of `model` in place. Returns bool masks of the zeros by parameter name.

    `chance`: a generator on the CPU, to zero as many weights by chance; those that are zero already count first.
    `sparsities`: fractions of single weights, by globs; the others reach `sparsity` of all (`divided`).
    Raises as `select_weights` and `divided` do, and NoEffectError if nothing changes.
    """
    weights = select_weights(model, include, exclude, also)
    scores = weights if chance is None else {name: _drawn(weight, chance) for name, weight in weights.items()}
    parts = divided({name: w.numel() for name, w in weights.items()}, sparsity, scope, sparsities or {})
    made = {
        name: mask
        for names, share in parts
        for name, mask in smallest({name: scores[name] for name in names}, share).items()
    }
    masks = {name: made[name] for name in weights}
    if not any(bool((weights[name] != 0).logical_and_(mask).any()) for name, mask in masks.items()):
        raise no_effect(sparsity, sum(weight.numel() for weight in weights.values()))
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(mask, 0)
    return masks


def _drawn(weight: Tensor, chance: torch.Generator) -> Tensor:
    """Uniform scores in (0, 1], and 0 for weights that are zero."""
    scores = 1 - torch.rand(weight.shape, generator=chance)
    return scores.to(weight.device).masked_fill_(weight.detach() == 0, 0)


def no_effect(sparsity: float, weights: int) -> NoEffectError:
    """The error if pruning this fraction of this many weights changes none."""
    return NoEffectError(
        f"pruning {sparsity:g} of {weights:,} weights changes none of them",
        "the sparsity rounds to no weight, or that many weights are already zero: raise `sparsity`; to compare "
        "sparsities, use `sweep: {with.sparsity: [...]}` instead of `repeat`",
    )


def smallest(
    weights: Mapping[str, Tensor], sparsity: float, scope: Literal["global", "layer"] = "global"
) -> dict[str, Tensor]:
    """Bool masks of exactly the round(sparsity * n) weights with the smallest magnitudes, of all n weights (`global`)
    or of each tensor (`layer`). Of equal magnitudes, the first ones count."""
    if scope == "layer":
        return {name: smallest({name: weight}, sparsity)[name] for name, weight in weights.items()}
    count = round(sparsity * sum(weight.numel() for weight in weights.values()))
    if not count:
        return {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    cut, ties = _cut(weights.values(), count)
    masks: dict[str, Tensor] = {}
    for name, weight in weights.items():
        mask = torch.empty(weight.numel(), dtype=torch.bool, device=weight.device)
        for part, bits in zip(mask.split(_CHUNK), _magnitudes(weight), strict=True):
            torch.lt(bits, cut, out=part)
            equal = (bits == cut).nonzero().flatten()[:ties]
            part[equal] = True
            ties -= len(equal)
        masks[name] = mask.view(weight.shape)
    return masks


def _magnitudes(weight: Tensor) -> Iterator[Tensor]:
    """Yields `_CHUNK` magnitudes at a time, as the bits of float32: int32 with the same order. NaN is the largest."""
    for part in weight.detach().reshape(-1).split(_CHUNK):
        yield part.abs().float().view(torch.int32).clamp_(max=_NAN)


def _cut(weights: Collection[Tensor], count: int) -> tuple[int, int]:
    """The bits of the count-th smallest magnitude (1-based), and how many equal ones are among the first `count`.
    Counts the upper, then the lower half of the bits, so it neither copies nor sorts all weights."""
    upper, before = _bin((bits >> 16 for weight in weights for bits in _magnitudes(weight)), count)
    lower, below = _bin(
        (bits[bits >> 16 == upper] & 0xFFFF for weight in weights for bits in _magnitudes(weight)),
        count - before,
    )
    return (upper << 16) + lower, count - before - below


def _bin(values: Iterable[Tensor], count: int) -> tuple[int, int]:
    """The count-th smallest (1-based) of integers below 2**16, and how many are smaller."""
    counts = sum(
        (value.bincount(minlength=1 << 16).cpu() for value in values), torch.zeros(1 << 16, dtype=torch.int64)
    )
    reached = counts.cumsum(0)
    found = int(torch.searchsorted(reached, count))
    return found, int(reached[found] - counts[found])


def finetune(
    model: nn.Module, ctx: StageContext, options: FitConfig, masks: Mapping[str, Tensor]
) -> nn.Module:
    """Trains `model` in place with the task's loss on `ctx.data.train`. Masked weights must be zero and stay zero, and
    so do those that were pruned before."""
    train = ctx.data.train
    with keeping_zeros(model, ctx, masks):
        return fit(model, ctx, options, train, ctx.task.objective(train.y))
