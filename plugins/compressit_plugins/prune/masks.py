"""Choosing the smallest weights, zeroing them, and training on with the zeros kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.context import StageContext
from compressit.errors import NoEffectError, did_you_mean
from compressit.fit import fit
from compressit.fit_options import FitConfig


def prune_smallest(
    model: nn.Module,
    amount: float,
    scope: Literal["global", "layer"] = "global",
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Zeroes the smallest weights of `model` in place; returns what is zero, as bool masks by parameter name.

    Raises NoEffectError when a glob matches nothing or nothing changes.
    """
    weights = select_weights(model, include, exclude)
    masks = smallest(weights, amount, scope)
    if not any(bool(weights[name][mask].any()) for name, mask in masks.items()):
        raise no_effect(amount, sum(weight.numel() for weight in weights.values()))
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].masked_fill_(mask, 0)
    return masks


def no_effect(amount: float, weights: int) -> NoEffectError:
    """What to say where pruning that fraction of so many weights changes none."""
    return NoEffectError(
        f"pruning {amount:g} of {weights:,} weights changes none of them",
        "the amount rounds to nothing, or that many weights are zero already: raise `amount`; for a "
        "curve of amounts use `each: {with.amount: [...]}` instead of `repeat`",
    )


def select_weights(
    model: nn.Module, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """The parameters of at least two dimensions whose name, or the name of a module that holds them, matches
    a glob of `include` and none of `exclude`; tied parameters once.

    Raises NoEffectError, which names the glob, when one matches no such parameter, or when none is left.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim >= 2}
    for glob in (*include, *exclude):
        if not any(_matches(name, [glob]) for name in weights):
            raise NoEffectError(f"'{glob}' matches no weight of the model", did_you_mean(glob, weights))
    chosen = {n: w for n, w in weights.items() if _matches(n, include) and not _matches(n, exclude)}
    if not chosen:
        raise NoEffectError(
            f"exclude ({', '.join(exclude)}) leaves nothing of what include ({', '.join(include)}) selects"
        )
    return chosen


def smallest(
    weights: Mapping[str, Tensor], amount: float, scope: Literal["global", "layer"] = "global"
) -> dict[str, Tensor]:
    """Bool masks of the round(amount * n) weights of smallest magnitude, exactly that many, over all n
    weights (`global`) or over each tensor (`layer`); of equal magnitudes those that stand first."""
    if scope == "layer":
        return {name: smallest({name: weight}, amount)[name] for name, weight in weights.items()}
    magnitudes = torch.cat([weight.detach().abs().float().flatten() for weight in weights.values()])
    order = magnitudes.argsort(stable=True)
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    chosen[order[: round(amount * len(order))]] = True
    parts = chosen.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def finetune(
    model: nn.Module, ctx: StageContext, options: FitConfig, masks: Mapping[str, Tensor]
) -> nn.Module:
    """Trains `model` in place with cross-entropy on `ctx.data.train`; masked weights, zero before, stay zero.

    Hiding their gradients is enough: optimizers start without moments, so for a zero weight without gradients
    momentum, Adam's moments and weight decay are zero for ever.
    """
    train = ctx.data.train
    hooks = [
        parameter.register_hook(lambda gradient, mask=masks[name]: gradient.masked_fill(mask, 0))
        for name, parameter in model.named_parameters()
        if name in masks and parameter.requires_grad
    ]
    try:
        return fit(model, ctx, options, lambda epoch: train.tensors(), F.cross_entropy)
    finally:
        for hook in hooks:
            hook.remove()


def _matches(parameter: str, globs: Iterable[str]) -> bool:
    parts = parameter.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]  # every module on the way, then itself
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
