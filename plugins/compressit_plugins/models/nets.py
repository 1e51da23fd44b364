"""The networks, as plain torch modules."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from compressit import CompressitError

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def image_shape(name: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width. Raises CompressitError if the inputs are not images."""
    if len(input_shape) != 3:
        raise CompressitError(
            f"{name} needs images (channels, height, width); the inputs are {tuple(input_shape)}",
            "use model.mlp, which takes inputs of any shape",
        )
    return input_shape[0], input_shape[1], input_shape[2]


def mlp(
    input_shape: Sequence[int],
    classes: int,
    hidden: Sequence[int],
    activation: str = "relu",
    bias: bool = True,
    residual: bool = False,
) -> nn.Sequential:
    """Maps inputs (N, *input_shape) to logits (N, classes): flatten, linear1, relu1 … output; torch's default init.

    `residual`: a hidden layer as wide as its input adds it, x + relu(linear(x)), and is called residual2, say.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(input_shape)
    for number, width in enumerate(hidden, start=1):
        layer = OrderedDict[str, nn.Module](
            [
                (f"linear{number}", nn.Linear(inputs, width, bias=bias)),
                (f"{activation}{number}", _ACTIVATIONS[activation]()),
            ]
        )
        skips = residual and number > 1 and width == inputs
        layers.update({f"residual{number}": Residual(layer)} if skips else layer)
        inputs = width
    layers["output"] = nn.Linear(inputs, classes, bias=bias)
    return nn.Sequential(layers)


class Residual(nn.Sequential):
    """Adds its input to what its layers give (He et al. 2016)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Sequential's name
        """The input and the sum are (N, width)."""
        return input + super().forward(input)


def convnet(input_shape: Sequence[int], classes: int, channels: Sequence[int]) -> nn.Sequential:
    """Maps images (N, C, H, W) to logits (N, classes).

    One block per entry of `channels`: 3 x 3 convolution, batch norm, ReLU, 2 x 2 max pooling
    (sizes rounded up); then global average pooling and a linear layer.
    Raises CompressitError if the inputs are not images.
    """
    layers = _blocks(input_shape, channels, pools=True)
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels[-1], classes)
    return nn.Sequential(layers)


def pixelwise(input_shape: Sequence[int], classes: int, channels: Sequence[int]) -> nn.Sequential:
    """Maps images (N, C, H, W) to logits of every pixel (N, classes, H, W).

    One block per entry of `channels`: 3 x 3 convolution, batch norm, ReLU; then a 1 x 1 convolution.
    Raises CompressitError if the inputs are not images.
    """
    layers = _blocks(input_shape, channels, pools=False)
    layers["output"] = nn.Conv2d(channels[-1], classes, kernel_size=1)
    return nn.Sequential(layers)


def _blocks(input_shape: Sequence[int], channels: Sequence[int], pools: bool) -> OrderedDict[str, nn.Module]:
    """Convolution, batch norm and ReLU for each of `channels`, and pooling if asked for."""
    inputs, _, _ = image_shape("model.convnet", input_shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(channels, start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, width, kernel_size=3, padding=1, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU()
        if pools:
            layers[f"pool{number}"] = nn.MaxPool2d(2, ceil_mode=True)
        inputs = width
    return layers
