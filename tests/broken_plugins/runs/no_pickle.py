"""Keeps a copy of the weights with torch.save, which pickles."""

import torch

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Change the weights."""

    name = "broken.no_pickle"

    def compress(self, model, ctx):
        torch.save(model.state_dict(), "before.pt")
        for weight in model.parameters():
            weight.data.mul_(0.5)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
