"""What `data.synthetic` shows and asks, for each task. Each maker gives noiseless inputs and their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

Maker = Callable[[int, Tensor, Generator], tuple[Tensor, Tensor]]


def one_class(count: int, prototypes: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """Prototypes (K, *shape) in turn, and their numbers (N,) int64."""
    y = torch.arange(count) % len(prototypes)
    return prototypes[y], y


def labels(count: int, prototypes: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """The mean of the prototypes that are set, each with probability 1/2; (N, K) float32 of 0 and 1."""
    y = torch.randint(2, (count, len(prototypes)), generator=draws).float()
    mixed = (y @ prototypes.flatten(1)) / y.sum(1, keepdim=True).clamp_min(1)
    return mixed.view(count, *prototypes.shape[1:]), y


def numbers(count: int, prototypes: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """A mixture of the prototypes, by weights from a uniform distribution that are made to sum to 1: a linear problem;
    the targets are the weights times K, (N, K) float32 of mean 1."""
    weights = torch.rand(count, len(prototypes), generator=draws)
    weights /= weights.sum(1, keepdim=True)
    mixed = weights @ prototypes.flatten(1)
    return mixed.view(count, *prototypes.shape[1:]), weights * len(prototypes)


def pixel_classes(count: int, prototypes: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """Images of two halves, left and right of a random column; the pixels of class k have the brightness
    (k + 1/2) / K in every channel. (N, H, W) int64."""
    classes, channels, height, width = prototypes.shape
    sides = torch.randint(classes, (count, 2), generator=draws)
    borders = torch.randint(width + 1, (count, 1), generator=draws)
    right = (torch.arange(width) >= borders).long()
    y = sides.gather(1, right)[:, None].expand(count, height, width).contiguous()
    return ((y + 0.5) / classes)[:, None].expand(count, channels, height, width), y


MAKERS: Mapping[str, Maker] = {
    "classification": one_class, "multilabel": labels, "regression": numbers, "segmentation": pixel_classes,
}  # fmt: skip
