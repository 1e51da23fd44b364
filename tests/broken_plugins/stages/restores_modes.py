"""Freezes the parameters while it changes them, for good."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.restores_modes"

    def compress(self, model, ctx):
        for weight in model.requires_grad_(False).parameters():
            weight.mul_(0.5)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
