"""`model.mlp`: a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class MlpConfig(Config):
    """Options of the multilayer perceptron."""

    hidden: tuple[PositiveInt, ...] = Field(
        default=(512, 512), min_length=1, description="widths of the hidden layers"
    )
    activation: Literal["relu", "tanh", "gelu"] = Field(
        default="relu", description="activation between the layers"
    )
    bias: bool = Field(default=True, description="whether the linear layers have biases")
    residual: bool = Field(
        default=False,
        description="add its input to what a hidden layer gives after its activation, where both have the same width",
    )


class Mlp(Model[MlpConfig]):
    """A multilayer perceptron. Flattens inputs of any shape."""

    name = "model.mlp"
    example: ClassVar[Mapping[str, Any]] = {"hidden": [32]}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential with named layers; with `residual`, a layer that skips has its linear layer inside."""
        from compressit import single_tensor
        from compressit_plugins.models.nets import mlp

        config, shape = self.config, single_tensor(inputs, self.name).shape
        return mlp(shape, outputs, config.hidden, config.activation, config.bias, config.residual)

    def with_width(self, multiplier: float) -> MlpConfig:
        """The config with every hidden width times `multiplier`, rounded up."""
        return self.config.model_copy(
            update={"hidden": tuple(narrowed(w, multiplier) for w in self.config.hidden)}
        )


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Mlp]
