"""A local plugin file: nets whose outputs are of other classes than tensors, and one that ONNX has no operator for."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressit.config import Config
from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Model
from compressit.datasets.specs import Inputs

Out = namedtuple("Out", "logits features")


class Named(OrderedDict[str, Tensor]):
    """As the outputs of large libraries."""


class Net(nn.Module):
    def __init__(self, gives: str, inputs: int, classes: int) -> None:
        super().__init__()
        self.gives, self.a, self.head = gives, nn.Linear(inputs, 16), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Any:
        features = self.a(x.flatten(1)).relu()
        logits = self.head(features)
        match self.gives:
            case "a named tuple":
                return Out(logits, features)
            case "a result of torch":
                return logits.sort(1)
            case "a dictionary":
                return {"logits": logits, "all": [features]}
            case "a class of dictionary":
                return Named(logits=logits, features=features)
            case _:
                return functional.adaptive_max_pool2d(x, 4).flatten(1)


class AwkwardConfig(Config):
    gives: str
    dtype: str = "float32"


class Awkward(Model[AwkwardConfig]):
    """A net with outputs of a kind."""

    name = "tiny.awkward"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        return Net(self.config.gives, torch.Size(inputs.shape).numel(), outputs).to(
            getattr(torch, self.config.dtype)
        )


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Awkward]
