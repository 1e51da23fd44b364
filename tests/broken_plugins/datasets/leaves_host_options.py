"""Carries out the option `limit` itself: the host would do it again."""

import torch

from compressit import Dataset, RawData, hookimpl


class Broken(Dataset):
    """Stripes of two classes."""

    name = "broken.leaves_host_options"
    input_shape = (1, 4, 4)
    classes = 2
    train_size = 40

    def load(self, ctx):
        y = torch.arange(60) % 2
        x = (y.view(60, 1, 1, 1) * torch.linspace(0, 1, 4)).expand(60, 1, 4, 4)
        kept = min(40, self.config.limit or 40)
        return RawData(x[:kept], y[:kept], x[40:], y[40:])


@hookimpl
def compressit_datasets():
    return [Broken]
