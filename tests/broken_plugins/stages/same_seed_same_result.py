"""Draws from a generator that nobody seeds."""

import numpy as np
import torch

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Halve the weights."""

    name = "broken.same_seed_same_result"

    def compress(self, model, ctx):
        for weight in model.parameters():
            noise = np.random.default_rng().normal(size=tuple(weight.shape))
            weight.data.add_(torch.from_numpy(noise).to(weight.dtype), alpha=0.01)
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
