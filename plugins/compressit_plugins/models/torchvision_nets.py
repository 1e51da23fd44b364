"""`model.torchvision`: any classification architecture of torchvision, by name."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from compressit import Config, Model, did_you_mean, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import Inputs, Pretrained


class TorchvisionConfig(Config):
    """Options of torchvision's architectures."""

    name: str = Field(description="a classification architecture of torchvision.models, such as resnet18")
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="`dropout` of the architectures that have it; default: torchvision's",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        known = classifiers()
        if known and name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"torchvision has no classification architecture '{name}'; {hint}")
        return name


class Torchvision(Model[TorchvisionConfig]):
    """A classification architecture of torchvision with fresh weights; building never downloads anything."""

    name = "model.torchvision"
    example: ClassVar[Mapping[str, Any]] = {"name": "mnasnet0_5"}

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """Raises CompressitError for inputs that the architecture does not support."""
        from compressit import single_tensor
        from compressit_plugins.models.zoo import torchvision_net

        shape = single_tensor(inputs, self.name).shape
        return torchvision_net(self.config.name, shape, outputs, self.config.dropout)

    def pretrained(self) -> Pretrained:
        """The weights that torchvision calls the default: downloaded if its cache has none."""
        from compressit_plugins.models.pretrained import torchvision_pretrained

        return torchvision_pretrained(self.config.name)


@cache
def classifiers() -> frozenset[str]:
    """Names of the installed torchvision's classification architectures.

    Reads torchvision's source, because importing it would import torch. Empty if there is no source.
    """
    spec = importlib.util.find_spec("torchvision")
    folders = (spec.submodule_search_locations if spec else None) or []
    files = [file for folder in folders for file in sorted((Path(folder) / "models").glob("*.py"))]
    registered = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    return frozenset(name for file in files for name in registered.findall(file.read_text(encoding="utf-8")))


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Torchvision]
