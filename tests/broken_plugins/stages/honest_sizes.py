"""Calls the weights that are not zero its parameters: zeros are stored all the same."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.honest_sizes"

    def compress(self, model, ctx):
        for weight in model.parameters():
            weight.data.view(-1)[::2] = 0
        ctx.note(parameters=sum(int(weight.count_nonzero()) for weight in model.parameters()))
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
