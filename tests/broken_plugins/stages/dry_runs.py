"""Its dry run has another width than it gives."""

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """A net of half the width."""

    name = "broken.dry_runs"

    def compress(self, model, ctx):
        return ctx.with_width(0.5)

    def dry_run(self, model, ctx):
        return ctx.with_width(0.25)


@hookimpl
def compressit_compressors():
    return [Broken]
