"""Seeds its noise with the process id: the same in this process, another in each worker."""

import os

import torch

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Change the weights."""

    name = "broken.runs_under_jobs"

    def compress(self, model, ctx):
        generator = torch.Generator().manual_seed(os.getpid())
        for weight in model.parameters():
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.01)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
