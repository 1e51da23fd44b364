"""Scales the weights of the parent, which others are given too, instead of a copy's."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.leaves_models"

    def compress(self, model, ctx):
        parent = ctx.model("previous")
        for weight in parent.parameters():
            weight.mul_(0.5)
        model.load_state_dict(parent.state_dict())
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
