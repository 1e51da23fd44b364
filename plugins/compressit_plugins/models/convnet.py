"""`model.convnet`: a small convolutional network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class ConvnetConfig(Config):
    """Options of the small convolutional network."""

    channels: tuple[PositiveInt, ...] = Field(
        default=(16, 32, 64),
        min_length=1,
        description="channels of each block; every block halves height and width",
    )
    per_pixel: bool = Field(
        default=False,
        description="answer for every pixel, as a segmentation wants: no block halves anything, and a 1 x 1 "
        "convolution takes the linear layer's place",
    )


class Convnet(Model[ConvnetConfig]):
    """A small convolutional network: convolution, batch norm, ReLU and pooling, then a linear layer."""

    name = "model.convnet"
    example: ClassVar[Mapping[str, Any]] = {"channels": [8, 16]}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential with named layers. Raises CompressitError if the inputs are not images."""
        from compressit import single_tensor
        from compressit_plugins.models.nets import convnet, pixelwise

        built = pixelwise if self.config.per_pixel else convnet
        return built(single_tensor(inputs, self.name).shape, outputs, self.config.channels)

    def with_width(self, multiplier: float) -> ConvnetConfig:
        """The config with every block's channels times `multiplier`, rounded up."""
        channels = tuple(narrowed(width, multiplier) for width in self.config.channels)
        return self.config.model_copy(update={"channels": channels})


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Convnet]
