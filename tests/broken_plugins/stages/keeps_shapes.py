"""A trainer that gives back a smaller net: that is a compressor's business."""

from compressit import Trainer, hookimpl


class Broken(Trainer):
    """A net of half the width."""

    name = "broken.keeps_shapes"

    def train(self, model, ctx):
        return ctx.with_width(0.5)


@hookimpl
def compressit_trainers():
    return [Broken]
