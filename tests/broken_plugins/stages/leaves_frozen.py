"""Moves every weight, also those that somebody froze."""

from compressit import Trainer, hookimpl


class Broken(Trainer):
    """Weight decay alone."""

    name = "broken.leaves_frozen"

    def train(self, model, ctx):
        for weight in model.parameters():
            weight.data.mul_(0.9)
        return model


@hookimpl
def compressit_trainers():
    return [Broken]
