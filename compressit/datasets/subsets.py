"""Which examples go where: the limit, the validation split, and what a split lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from compressit.datasets.options import DataConfig, validation_fault
from compressit.datasets.shares import shares
from compressit.errors import CompressitError
from compressit.seeds import Streams


def limited(y: Tensor, limit: int | None) -> Tensor:
    """Where the examples that `limit` keeps stand among those with labels `y` (N,), in their old order: the first ones.

    Where the first ones lack a class of the split (data in the order of their classes), the first of every class
    instead: at least one, the rest in proportion, by largest remainders. A limit below the number of classes
    cannot hold them all and keeps the first examples.
    """
    everything = torch.arange(len(y))
    labels, counts = y.unique(return_counts=True)
    first = everything[:limit]
    if limit is None or limit >= len(y) or limit < len(labels) or len(y[first].unique()) == len(labels):
        return first
    takes = shares((counts - 1).tolist(), limit - len(labels))
    parts = [(y == label).nonzero()[: 1 + take, 0] for label, take in zip(labels, takes, strict=True)]
    return torch.cat(parts).sort().values


def lacking(splits: Mapping[str, Tensor], classes: int, class_names: Sequence[str]) -> Iterator[str]:
    """A line for each split whose labels (N,) lack a class."""
    for split, labels in splits.items():
        there = set(labels.unique().tolist())
        missing = [label for label in range(classes) if label not in there]
        if missing:
            names = [class_names[c] if c < len(class_names) else str(c) for c in missing[:5]]
            shown = ", ".join(names) + (", …" if len(missing) > 5 else "")
            yield f"no {split} example has {len(missing)} of the {classes} classes: {shown}"


def validation_cut(y: Tensor, options: DataConfig, streams: Streams) -> tuple[Tensor, Tensor | None]:
    """Where the training and the validation examples stand among those with labels `y`, both in their old order.

    Raises CompressitError when the validation split would have no example, or leave no training example.
    """
    if fault := validation_fault(options, len(y)):
        raise CompressitError(
            f"the data's `validation: {options.validation:g}` {fault}", "change `validation` or `limit`"
        )
    wanted = options.validation_count(len(y))
    if wanted == 0:
        return torch.arange(len(y)), None
    held = torch.zeros(len(y), dtype=torch.bool)
    held[_held_out(y, wanted, torch.randperm(len(y), generator=streams.generator("validation")))] = True
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _held_out(y: Tensor, wanted: int, permutation: Tensor) -> Tensor:
    """Which images are held out: the first `wanted` of the permutation.

    Where these would leave the training, or the validation, without a class that both can have, the first of every
    class in proportion instead, but for one; the only image of a class stays with the training. Nothing is done about
    it where one of the two is too small to hold them all.
    """
    labels, counts = y.unique(return_counts=True)
    shared, drawn, first = labels[counts > 1], y[permutation], permutation[:wanted]
    complete = len(drawn[wanted:].unique()) == len(labels) and bool(torch.isin(shared, y[first]).all())
    if complete or not len(shared) <= wanted <= len(y) - len(labels):
        return first
    takes = shares((counts[counts > 1] - 2).tolist(), wanted - len(shared))
    parts = [(drawn == label).nonzero()[: 1 + take, 0] for label, take in zip(shared, takes, strict=True)]
    return permutation[torch.cat(parts)]
