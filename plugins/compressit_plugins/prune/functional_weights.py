"""Parameters that a net uses without calling a layer: weights passed to functions, and parameters outside layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_FUNCTIONS = {F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d,
              torch.conv_transpose3d}  # fmt: skip


class Borrowed(TorchFunctionMode):
    """Calls `enter` and `leave` like hooks of a layer if its weight is passed to a function (torchvision's Swin)."""

    def __init__(
        self,
        layers: Mapping[int, tuple[str, nn.Module]],  # by the id of the weight
        enter: Callable[[nn.Module, Any, Any], None],
        leave: Callable[[str, nn.Module, Any, Any, Any], None],
    ) -> None:
        super().__init__()
        self.layers, self.enter, self.leave = layers, enter, leave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        weight = (args[1] if len(args) > 1 else kwargs.get("weight")) if func in _FUNCTIONS else None
        owner = self.layers.get(id(weight))
        if owner is None:
            return func(*args, **kwargs)
        name, module = owner
        x = args[0] if args else kwargs["input"]
        self.enter(module, (x,), {})
        out = func(*args, **kwargs)
        self.leave(name, module, (x,), {}, out)
        return out


def loose_parameters(model: nn.Module, layers: tuple[type[nn.Module], ...]) -> dict[int, tuple[str, int]]:
    """Names and channel dimensions of parameters outside known layers, by id."""
    loose: dict[int, tuple[str, int]] = {}
    for at, module in model.named_modules():
        if isinstance(module, layers):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            wide = [d for d, size in enumerate(parameter.shape) if size > 1]
            if wide and parameter.is_floating_point():
                image = parameter.ndim == 4 and parameter.shape[0] == 1 and parameter.shape[1] > 1
                loose[id(parameter)] = (f"{at}.{name}".lstrip("."), 1 if image else wide[-1])
    return loose
