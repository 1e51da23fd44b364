"""Calls itself narrower, at the same width."""

import math

from pydantic import Field
from torch import nn

from compressit import Config, Model, hookimpl


class NetConfig(Config):
    width: int = Field(8, ge=1, description="units of the hidden layer")


class Broken(Model[NetConfig]):
    """A linear classifier."""

    name = "broken.with_width"

    def build(self, input_shape, classes):
        width = self.config.width
        layers = nn.Linear(math.prod(input_shape), width), nn.ReLU(), nn.Linear(width, classes)
        return nn.Sequential(nn.Flatten(), *layers)

    def with_width(self, multiplier):
        return self.config.model_copy(update={"width": max(8, round(self.config.width * multiplier))})


@hookimpl
def compressit_models():
    return [Broken]
