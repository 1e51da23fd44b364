"""Batch sizes, by one rule for every loop over batches. Does not import torch."""

from __future__ import annotations

from typing import Literal

BatchSize = int | Literal["all"]
"""Examples in a batch; `all`: all of them, in their stored order."""


def batch_sizes(count: int, size: BatchSize) -> list[int]:
    """Sizes of the batches of `count` examples: `size` each, and the rest in the last.

    A single remaining example joins the previous batch: batch norm cannot train on one example (Ioffe & Szegedy
    2015 divide by its variance, which is zero).
    """
    if size == "all":
        return [count] * (count > 0)
    whole, rest = divmod(count, size)
    if rest == 1 and whole and size > 1:
        return [size] * (whole - 1) + [size + 1]
    return [size] * whole + [rest] * (rest > 0)


def batch_count(count: int, size: BatchSize) -> int:
    """The number of batches that `batch_sizes` gives."""
    if size == "all":
        return int(count > 0)
    whole, rest = divmod(count, size)
    return whole + (rest > 0 and not (rest == 1 and whole > 0 and size > 1))
