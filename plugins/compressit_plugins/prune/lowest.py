"""Finds the lowest of many values without sorting them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 20  # values processed at a time
_NAN = 0x7F800001  # the bits of infinity, plus one
_HALF = 1 << 15
_COPIED = 1 << 24  # values, at most, that are copied to be searched at once

Of = Callable[[Tensor], Tensor]


def itself(value: Tensor) -> Tensor:
    """The value: what is compared of scores."""
    return value


def lowest(values: Mapping[str, Tensor], count: int, of: Of = itself) -> dict[str, Tensor]:
    """Bool masks of exactly the `count` lowest of all values, as float32. Of equal ones the first count; NaN is the
    highest. `of`: what is compared of the values, such as `torch.abs`."""
    if not count:
        return {name: torch.zeros_like(value, dtype=torch.bool) for name, value in values.items()}
    total = sum(value.numel() for value in values.values())
    if total <= _COPIED and all(value.device.type == "cpu" for value in values.values()):
        return _lowest_of_few(values, count, of)
    cut, ties = _cut(values.values(), count, of)
    masks: dict[str, Tensor] = {}
    for name, value in values.items():
        mask = torch.empty(value.numel(), dtype=torch.bool, device=value.device)
        for part, keys in zip(mask.split(_CHUNK), _keys(value, of), strict=True):
            torch.lt(keys, cut, out=part)
            equal = (keys == cut).nonzero().flatten()[:ties]
            part[equal] = True
            ties -= len(equal)
        masks[name] = mask.view(value.shape)
    return masks


def _lowest_of_few(values: Mapping[str, Tensor], count: int, of: Of) -> dict[str, Tensor]:
    """The same from a copy of all values, on a CPU twice as fast: numpy.partition is vectorised."""
    keys = torch.cat([keys for value in values.values() for keys in _keys(value, of)])
    cut = int(np.partition(keys.numpy(), count - 1)[count - 1])
    mask = keys <= cut
    if (ties := int(mask.count_nonzero()) - count) > 0:  # the last ones of these stay
        mask[(keys == cut).nonzero().flatten()[-ties:]] = False
    parts = mask.split([value.numel() for value in values.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}


def lowest_but_one(values: Mapping[str, Tensor], count: int, of: Of = itself) -> dict[str, Tensor]:
    """As `lowest`, but the highest value of each tensor stays; so `count` is at most the number of all others."""
    masks = lowest(values, count, of)
    full = {name: values[name] for name, mask in masks.items() if bool(mask.all())}
    if not full:
        return masks
    made = {name: lowest({name: value}, value.numel() - 1, of)[name] for name, value in full.items()}
    rest = {name: value for name, value in values.items() if name not in full}
    made |= lowest_but_one(rest, count - sum(value.numel() - 1 for value in full.values()), of)
    return {name: made[name] for name in values}


def lowest_in_rows(values: Tensor, count: int, of: Of = itself) -> Tensor:
    """A bool mask (rows, n) of `count` values: as many of each row, its lowest; one more of the first rows where they
    do not divide. Of equal ones the first count."""
    each, more = divmod(count, len(values))
    keys = of(values.detach()).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    places = keys.argsort(dim=1, stable=True).argsort(dim=1)
    wanted = torch.full((len(values), 1), each, device=values.device)
    wanted[:more] += 1
    return places < wanted


def _keys(value: Tensor, of: Of) -> Iterator[Tensor]:
    """Yields `_CHUNK` values at a time as int32 with the order of float32."""
    for part in value.detach().reshape(-1).split(_CHUNK):
        found = of(part).float()
        bits = found.view(torch.int32)
        keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # below zero, more bits are a lower value
        yield keys.clamp_(max=_NAN).masked_fill_(found.isnan(), _NAN)


def _cut(values: Collection[Tensor], count: int, of: Of) -> tuple[int, int]:
    """The key of the count-th lowest value (1-based), and how many equal ones are among the first `count`.
    Counts the upper, then the lower half of the bits, so it neither copies nor sorts all values."""
    upper, before = _bin(((keys >> 16) + _HALF for value in values for keys in _keys(value, of)), count)
    lower, below = _bin(
        (keys[(keys >> 16) + _HALF == upper] & 0xFFFF for value in values for keys in _keys(value, of)),
        count - before,
    )
    return ((upper - _HALF) << 16) + lower, count - before - below


def _bin(values: Iterable[Tensor], count: int) -> tuple[int, int]:
    """The count-th smallest (1-based) of integers below 2**16, and how many are smaller."""
    counts = sum(
        (value.bincount(minlength=1 << 16).cpu() for value in values), torch.zeros(1 << 16, dtype=torch.int64)
    )
    reached = counts.cumsum(0)
    found = int(torch.searchsorted(reached, count))
    return found, int(reached[found] - counts[found])
