"""Gives a net fresh weights, whatever was pruned of it."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, nn

from compressit import CompressitError, InitConfig, StageContext, initialise


def redraw(
    model: nn.Module, seed: int, init: InitConfig | None = None, built: nn.Module | None = None
) -> None:
    """Draws every layer's weights again in place, by its own `reset_parameters` and then as `init` says.

    `built`: the model with fresh weights as its plugin builds it. From there come the parameters of layers without that
    method (a class token, a table of positions, the scales of layers). Of a wider one the leading entries are taken:
    along a width that can be pruned, fresh entries are alike.

    Parameters with `requires_grad=False` keep their values. Does not change torch's random state. Raises
    CompressitError that names the layer if one has parameters, no such method, and none in `built` that fit.
    """
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            _reset(name, module, built)
        if init is not None:
            initialise(model, init)
    _put(model, kept)


def redraw_as_built(model: nn.Module, ctx: StageContext) -> None:
    """Gives `model` the fresh weights that its model plugin draws, or, where it has other shapes by now, those of
    `redraw`. Parameters with `requires_grad=False` keep their values."""
    built = as_built(ctx)
    if built is None or not _alike(built, model):
        redraw(model, ctx.streams.number("student", ctx.init.draw or None), ctx.init, built)
        return
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    _put(model, {name: value for name, value in built.state_dict().items() if name not in frozen})


def as_built(ctx: StageContext) -> nn.Module | None:
    """The given model with fresh weights, as its plugin builds it; None if it has none."""
    return ctx.with_width(1, times=0)  # no narrower at all


def _reset(name: str, module: nn.Module, built: nn.Module | None) -> None:
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
        return
    drawn = {} if built is None else dict(built.named_parameters())
    for own, parameter in module.named_parameters(recurse=False):
        if parameter.numel() == 0:
            continue
        fresh = drawn.get(f"{name}.{own}".lstrip("."))
        if (
            fresh is None
            or fresh.ndim != parameter.ndim
            or any(map(operator.lt, fresh.shape, parameter.shape))
        ):
            raise CompressitError(
                f"'{name or 'the model'}' ({type(module).__name__}) cannot be given fresh weights",
                "give its class a reset_parameters method, or build the model by a model plugin (`uses`)",
            )
        with torch.no_grad():
            parameter.copy_(fresh[tuple(map(slice, parameter.shape))])


def _alike(one: nn.Module, other: nn.Module) -> bool:
    shapes = [{name: value.shape for name, value in _tensors(net).items()} for net in (one, other)]
    return shapes[0] == shapes[1]


def _put(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            if name in values:
                tensor.copy_(values[name])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
