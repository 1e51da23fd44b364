"""`model.lenet5`: the convolutional LeNet that pruning papers compare themselves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class Lenet5Config(Config):
    """Options of LeNet-5."""

    convolutions: tuple[PositiveInt, PositiveInt] = Field(
        default=(20, 50), description="channels of the two convolutions"
    )
    hidden: PositiveInt = Field(default=500, description="width of the hidden linear layer")


class Lenet5(Model[Lenet5Config]):
    """LeNet-5 (LeCun et al. 1998) in Caffe's widths, 20-50-500: 431,080 parameters on MNIST.

    Caffe's has a ReLU behind the hidden layer alone. Here each convolution has one too, as in the papers that prune it
    (Louizos et al. 2018).
    """

    name = "model.lenet5"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential. Raises CompressitError for inputs that are no images of 16 x 16 pixels or more."""
        from compressit import single_tensor
        from compressit_plugins.models.published import lenet5

        shape = single_tensor(inputs, self.name).shape
        return lenet5(shape, outputs, self.config.convolutions, self.config.hidden)

    def with_width(self, multiplier: float) -> Lenet5Config:
        """The config with all three widths times `multiplier`, rounded up."""
        first, second = (narrowed(width, multiplier) for width in self.config.convolutions)
        return Lenet5Config(convolutions=(first, second), hidden=narrowed(self.config.hidden, multiplier))


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Lenet5]
