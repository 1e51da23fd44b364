"""Computes with random numbers that are not in its state."""

import math

import torch
from torch import nn

from compressit import Model, hookimpl


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)
        self.scale = torch.rand(inputs)  # no buffer

    def forward(self, x):
        return self.layer(x.flatten(1) * self.scale)


class Broken(Model):
    """A linear classifier."""

    name = "broken.saves_and_reloads"

    def build(self, input_shape, classes):
        return Net(math.prod(input_shape), classes)


@hookimpl
def compressit_models():
    return [Broken]
