"""Puts in a layer of its own, and registers no module type to build it again."""

from torch import nn

from compressit import Compressor, hookimpl


class HalvedReLU(nn.Module):
    def forward(self, x):
        return x.relu() / 2


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.saves_and_reloads"

    def compress(self, model, ctx):
        model[2] = HalvedReLU()
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
