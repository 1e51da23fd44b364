"""Random changes of training images, one batch at a time, on the device they are on.

What happens to an example depends on a counter hash of stream, epoch and position alone: it is the same whatever the
batch size, wherever the example is kept, and in a resumed training, and no generator has a state to save.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compressit.datasets.options import Crop, Erase
from compressit.seeds import Streams

Step = str | Crop | Erase

# splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), as signed numbers
_GAMMA, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685


def example_seeds(streams: Streams, epoch: int, index: Tensor) -> Tensor:
    """A seed (B,) int64 for each of the examples at `index` (B,) int64 in this epoch."""
    start = torch.tensor(streams.number("augment", epoch), device=index.device)
    return _mixed(start + index * _GAMMA)


def uniform(seeds: Tensor, count: int) -> Tensor:
    """`count` numbers for each seed: (B, count) float32 in [0, 1)."""
    steps = torch.arange(1, count + 1, device=seeds.device) * _GAMMA
    bits = _mixed(seeds[:, None] + steps) >> 40 & 0xFFFFFF  # 24: what a float32 holds exactly
    return bits.float() * 2.0**-24


def augmented(x: Tensor, steps: Sequence[Step], seeds: Tensor) -> Tensor:
    """Images (B, C, H, W) of any type after each of the steps, of the same shape; drawn from `seeds` (B,) int64."""
    for number, step in enumerate(steps):
        draws = uniform(_mixed(seeds + number + 1), 2)
        if isinstance(step, Crop):
            x = _cropped(x, step.crop, draws)
        elif isinstance(step, Erase):
            x = _erased(x, step.erase, draws)
        else:
            x = torch.where((draws[:, 0] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    return x


def _cropped(x: Tensor, padding: int, draws: Tensor) -> Tensor:
    """Each image moved by up to `padding` pixels each way; zeros come in (He et al. 2016, section 4.2)."""
    height, width = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    corners = (draws * (2 * padding + 1)).long().tolist()
    windows = zip(padded, corners, strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in windows])


def _erased(x: Tensor, size: int, draws: Tensor) -> Tensor:
    """A square of `size` pixels about a random one is zero, as far as it is inside (DeVries & Taylor 2017, cutout)."""
    height, width = x.shape[-2:]
    top, left = (draws * torch.tensor([height, width], device=x.device)).long().sub(size // 2).unbind(1)
    rows = torch.arange(height, device=x.device) - top[:, None]
    columns = torch.arange(width, device=x.device) - left[:, None]
    hidden = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    return x.masked_fill(hidden[:, None], 0)


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _FIRST
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _SECOND
    return z ^ (z >> 31 & (1 << 33) - 1)
