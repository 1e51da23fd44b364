"""Notes a tensor."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.notes_are_json"

    def compress(self, model, ctx):
        for weight in model.parameters():
            weight.data.mul_(0.5)
        ctx.note(largest=max(weight.abs().max() for weight in model.parameters()))
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
