"""Has an output too many, for inputs of no class."""

import math

from torch import nn

from compressit import Model, hookimpl


class Broken(Model):
    """A linear classifier."""

    name = "broken.builds"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes + 1))


@hookimpl
def compressit_models():
    return [Broken]
