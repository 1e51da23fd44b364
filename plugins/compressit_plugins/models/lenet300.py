"""`model.lenet300`: LeNet-300-100, the fully connected net that pruning papers compare themselves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class Lenet300Config(Config):
    """Options of LeNet-300-100."""

    hidden: tuple[PositiveInt, PositiveInt] = Field(
        default=(300, 100), description="widths of the two hidden layers"
    )


class Lenet300(Model[Lenet300Config]):
    """LeNet-300-100 (LeCun et al. 1998): two hidden layers with ReLU, 266,610 parameters on MNIST."""

    name = "model.lenet300"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential with named layers. Flattens inputs of any shape."""
        from compressit import single_tensor
        from compressit_plugins.models.nets import mlp

        return mlp(single_tensor(inputs, self.name).shape, outputs, self.config.hidden)

    def with_width(self, multiplier: float) -> Lenet300Config:
        """The config with both hidden widths times `multiplier`, rounded up."""
        first, second = (narrowed(width, multiplier) for width in self.config.hidden)
        return Lenet300Config(hidden=(first, second))


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Lenet300]
