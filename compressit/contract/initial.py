"""Fresh weights by a scheme, whatever the model plugin drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init

from compressit.contract.init_options import InitConfig
from compressit.errors import CompressitError

# An input of a convolution counts once for every position of the kernel.
_DRAWN: Mapping[str, Callable[[Tensor], Any]] = {
    "kaiming": partial(init.kaiming_normal_, nonlinearity="relu"),
    "xavier": init.xavier_uniform_,
    "lecun": partial(init.kaiming_normal_, nonlinearity="linear"),
    "orthogonal": init.orthogonal_,
}


def initialise(model: nn.Module, options: InitConfig) -> None:
    """Draws the weights of linear and convolutional layers by `options.scheme`, and scales them, in place.

    Random numbers come from torch's global generator; whoever calls seeds it (`options.draw`). A weight that is
    computed from others (weight norm, spectral norm) keeps its values. Raises CompressitError if there is no such layer
    to draw or scale.
    """
    if options.scheme == "default" and options.scale == 1:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]  # pyright: ignore[reportPrivateUsage]
    layers = [layer for layer in layers if isinstance(layer._parameters.get("weight"), nn.Parameter)]  # pyright: ignore[reportPrivateUsage]
    if not layers:
        raise CompressitError(
            f"{type(model).__name__} has no linear or convolutional layer, so `model.init` has no effect",
            "remove it; other layers are drawn as the model plugin says",
        )
    with torch.no_grad():
        for layer in layers:
            if options.scheme != "default":
                _DRAWN[options.scheme](layer.weight)
                if layer.bias is not None:
                    layer.bias.zero_()
            for value in (layer.weight, layer.bias):
                if value is not None and options.scale != 1:
                    value.mul_(options.scale)
