"""Lets misspelt options pass: `bais: false` changes nothing, and nobody is told."""

from pydantic import Field
from torch import nn

from compressit import Config, Model, hookimpl


class NetConfig(Config, extra="ignore"):
    bias: bool = Field(True, description="whether the layer has a bias")


class Net(Model[NetConfig]):
    """A linear layer."""

    name = "broken.options_strict"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes, bias=self.config.bias))


@hookimpl
def compressit_models():
    return [Net]
