"""Has no docstring: listings have nothing to say of it."""

from torch import nn

from compressit import Model, hookimpl


class Nameless(Model):
    name = "broken.summary"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


@hookimpl
def compressit_models():
    return [Nameless]
