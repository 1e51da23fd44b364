"""Zeroes a share of each tensor's weights that rounds to none."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.changes_something"

    def compress(self, model, ctx):
        for weight in model.parameters():
            weight.data.view(-1)[: round(0.0001 * weight.numel())] = 0
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
