"""Asks for a narrower net, which there is none of where the one before it was edited."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """A net of half the width, without biases in its last layer."""

    name = "broken.climbs"

    def compress(self, model, ctx):
        student = ctx.with_width(0.5)
        student[1].eps *= 2
        return student.train()


@hookimpl
def compressit_compressors():
    return [Broken]
