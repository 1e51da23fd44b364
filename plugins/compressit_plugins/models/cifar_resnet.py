"""`model.cifar_resnet`: the thin residual nets for images of 32 x 32 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, field_validator

from compressit import Config, Model, hookimpl
from compressit_plugins.models.widths import narrowed

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs


class CifarResnetConfig(Config):
    """Options of the residual net."""

    depth: int = Field(default=20, ge=8, description="6n + 2 layers: 20, 32, 44, 56, 110 …")
    width: PositiveInt = Field(
        default=16, description="channels of the first stage; the others have 2 and 4 times as many"
    )

    @field_validator("depth")
    @classmethod
    def _has_whole_blocks(cls, depth: int) -> int:
        if blocks := (depth - 2) % 6:
            raise ValueError(
                f"is 6n + 2, two layers for each of n blocks in three stages: {depth - blocks} or "
                f"{depth - blocks + 6}, not {depth}"
            )
        return depth


class CifarResnetModel(Model[CifarResnetConfig]):
    """ResNet-20, 32, 44, 56 or 110 for small images (He et al. 2016, section 4.2).

    Its shortcuts have no parameters (option A). ResNet-20 has 269,722 parameters for 10 classes, ResNet-56 853,018.
    Names of layers, the order of channels and fresh weights are those of Y. Idelbayev's pytorch_resnet_cifar10 (2018),
    whose published weights fit.
    """

    name = "model.cifar_resnet"
    example: ClassVar[Mapping[str, Any]] = {"depth": 8, "width": 4}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """Raises CompressitError if the inputs are not images."""
        from compressit import single_tensor
        from compressit_plugins.models.published import CifarResnet

        blocks = (self.config.depth - 2) // 6
        return CifarResnet(single_tensor(inputs, self.name).shape, outputs, blocks, self.config.width)

    def with_width(self, multiplier: float) -> CifarResnetConfig:
        """The config with all channels times `multiplier`, those of the first stage rounded up."""
        return self.config.model_copy(update={"width": narrowed(self.config.width, multiplier)})


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [CifarResnetModel]
