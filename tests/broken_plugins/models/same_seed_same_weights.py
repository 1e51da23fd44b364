"""Draws its weights from a generator that nobody seeds."""

import math

import torch
from torch import nn

from compressit import Model, hookimpl


class Broken(Model):
    """A linear classifier."""

    name = "broken.same_seed_same_weights"

    def build(self, input_shape, classes):
        net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(net[1].weight, generator=generator)
        return net


@hookimpl
def compressit_models():
    return [Broken]
