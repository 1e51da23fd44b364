"""Rehearses another width than it gives."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """A net of half the width."""

    name = "broken.rehearses"

    def compress(self, model, ctx):
        return ctx.narrower(0.5)

    def rehearse(self, model, ctx):
        return ctx.narrower(0.25)


@hookimpl
def compressit_compressors():
    return [Broken]
