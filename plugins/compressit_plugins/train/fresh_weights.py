"""Gives a net fresh weights, whatever was pruned of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit import CompressitError, InitConfig, StageContext, initialise


def redraw(model: nn.Module, seed: int, init: InitConfig | None = None) -> None:
    """Draws every layer's weights again in place, by its own `reset_parameters` and then as `init` says.

    Parameters with `requires_grad=False` keep their values. Does not change torch's random state. Raises
    CompressitError that names the layer if one has parameters but no such method.
    """
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            _reset(name, module)
        if init is not None:
            initialise(model, init)
    _put(model, kept)


def redraw_as_built(model: nn.Module, ctx: StageContext) -> None:
    """Gives `model` the fresh weights that its model plugin draws, or, where it has other shapes by now, those of
    `redraw`. Parameters with `requires_grad=False` keep their values."""
    built = ctx.with_width(1, times=0)  # no narrower at all: as it was built
    if built is None or not _alike(built, model):
        redraw(model, ctx.streams.number("student", ctx.init.draw or None), ctx.init)
        return
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    _put(model, {name: value for name, value in built.state_dict().items() if name not in frozen})


def _reset(name: str, module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
    elif any(parameter.numel() for parameter in module.parameters(recurse=False)):
        raise CompressitError(
            f"'{name or 'the model'}' ({type(module).__name__}) cannot be given fresh weights",
            "give its class a reset_parameters method, or its model a `with_width`",
        )


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
