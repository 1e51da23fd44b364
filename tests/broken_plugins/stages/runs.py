"""Changes the model in place and forgets to return it."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.runs"

    def compress(self, model, ctx):
        for weight in model.parameters():
            weight.data.mul_(0.5)


@hookimpl
def compressit_compressors():
    return [Broken]
