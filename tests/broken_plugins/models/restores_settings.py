"""Takes all of the machine's threads."""

import math

import torch
from torch import nn

from compressit import Model, hookimpl


class Broken(Model):
    """A linear classifier."""

    name = "broken.restores_settings"

    def build(self, input_shape, classes):
        torch.set_num_threads(7)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


@hookimpl
def compressit_models():
    return [Broken]
