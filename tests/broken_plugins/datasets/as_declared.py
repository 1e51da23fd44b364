"""Has fewer training inputs than it declares."""

import torch

from compressit import Dataset, RawData, hookimpl


class Broken(Dataset):
    """Stripes of two classes."""

    name = "broken.as_declared"
    input_shape = (1, 4, 4)
    classes = 2
    train_size = 50

    def load(self, ctx):
        y = torch.arange(60) % 2
        x = (y.view(60, 1, 1, 1) * torch.linspace(0, 1, 4)).expand(60, 1, 4, 4)
        return RawData(x[:40], y[:40], x[40:], y[40:])


@hookimpl
def compressit_datasets():
    return [Broken]
