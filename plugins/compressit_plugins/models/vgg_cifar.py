"""`model.vgg_cifar`: VGG-16 and VGG-19 with batch norm, for images of 32 x 32 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class VggCifarConfig(Config):
    """Options of VGG for small images."""

    depth: Literal[16, 19] = Field(
        default=16, description="16 or 19, the number of layers in the paper's nets"
    )
    width: PositiveInt = Field(
        default=64, description="channels of the first block; the others have 2, 4, 8 and 8 times as many"
    )


class VggCifar(Model[VggCifarConfig]):
    """VGG-16 or VGG-19 for small images (Simonyan & Zisserman 2015), with batch norm and one linear layer.

    So pruning papers use it on CIFAR (Liu et al. 2017): 14.72 and 20.04 million parameters for 10 classes.
    """

    name = "model.vgg_cifar"
    example: ClassVar[Mapping[str, Any]] = {"width": 2}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential. Raises CompressitError for inputs that are no images of 32 x 32 pixels or more."""
        from compressit import single_tensor
        from compressit_plugins.models.published import vgg

        return vgg(single_tensor(inputs, self.name).shape, outputs, self.config.depth, self.config.width)

    def with_width(self, multiplier: float) -> VggCifarConfig:
        """The config with all channels times `multiplier`, those of the first block rounded up."""
        return self.config.model_copy(update={"width": narrowed(self.config.width, multiplier)})


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [VggCifar]
