"""Has a second layer that its forward pass never uses."""

import math

from torch import nn

from compressit import Model, hookimpl


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.used = nn.Linear(inputs, classes)
        self.forgotten = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.used(x.flatten(1))


class Broken(Model):
    """A linear classifier."""

    name = "broken.gradients_flow"

    def build(self, input_shape, classes):
        return Net(math.prod(input_shape), classes)


@hookimpl
def compressit_models():
    return [Broken]
