"""`model.timm`: any architecture of the timm library, by name. Needs the extra `compressit[timm]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Model, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs, Pretrained


class TimmConfig(Config):
    """Options of timm's architectures."""

    # No colon or slash: `hf-hub:…` and `local-dir:…` would download a model or read a folder.
    name: str = Field(
        pattern=r"^\w+(\.\w+)?$", description="an architecture of timm.list_models(), such as resnet18"
    )


class Timm(Model[TimmConfig]):
    """An architecture of timm (PyTorch Image Models) with fresh weights; building never downloads anything."""

    name = "model.timm"
    example: ClassVar[Mapping[str, Any]] = {"name": "test_resnet"}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """Raises CompressitError if timm is missing, for an unknown name, and for unsupported inputs."""
        from compressit import single_tensor
        from compressit_plugins.models.zoo import timm_net

        return timm_net(self.config.name, single_tensor(inputs, self.name).shape, outputs)

    def pretrained(self) -> Pretrained:
        """timm's weights of that name: downloaded if its cache has none."""
        from compressit_plugins.models.pretrained import timm_pretrained

        return timm_pretrained(self.config.name)


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Timm]
