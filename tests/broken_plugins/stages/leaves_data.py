"""Centres the training inputs in place: whoever reads them next gets others."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.leaves_data"

    def compress(self, model, ctx):
        ctx.data.train.x.sub_(ctx.data.train.x.mean())
        for weight in model.parameters():
            weight.data.mul_(0.5)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
