"""Describes its options, but not those of a block among them."""

from pydantic import Field
from torch import nn

from compressit import Config, Model, hookimpl


class HeadConfig(Config):
    bias: bool = True


class NetConfig(Config):
    head: HeadConfig = Field(HeadConfig(), description="the last layer")


class Net(Model[NetConfig]):
    """A linear layer."""

    name = "broken.options_described"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes, bias=self.config.head.bias))


@hookimpl
def compressit_models():
    return [Net]
