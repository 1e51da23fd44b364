"""Watches the first layer's outputs, and goes on watching."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.nothing_left"

    def compress(self, model, ctx):
        seen = []
        model[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.abs().mean()))
        ctx.compute.forward(model, ctx.data.train.x)
        model[0].weight.data.mul_(0.5)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
