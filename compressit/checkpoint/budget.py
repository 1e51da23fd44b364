"""A limit on what building a net may allocate: a file of a kilobyte must not order gigabytes, nor a million layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from compressit.errors import CompressitError

FREE_BYTES = 2**28
GROWTH = 1000
"""A net may be this many times its file before its edits: pruning to 3 % of the channels leaves a 1000th."""
FREE_TENSORS = 1000
MORE_TENSORS = 10
"""Tensors may be made for each of the file: layers that edits replace and helpers are not in it."""

_MAKERS = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.Tensor.new_zeros,
     torch.Tensor.new_ones, torch.Tensor.new_empty, torch.Tensor.new_full)
)  # fmt: skip


class Budget(TorchFunctionMode):
    """A block in which new tensors and their bytes are counted, before they are made.

    Raises CompressitError when a net takes more than its file's size and number of tensors can explain.
    """

    def __init__(self, file_bytes: int, tensors: int) -> None:
        super().__init__()
        self._most_bytes = max(FREE_BYTES, GROWTH * file_bytes)
        self._most_tensors = FREE_TENSORS + MORE_TENSORS * tensors
        self._file = f"a file of {file_bytes / 1e6:.3g} MB with {tensors} tensors"
        self._bytes = self._tensors = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS:
            self._tensors += 1
            self._bytes += _value_bytes(args, kwargs.get("dtype")) * _values(args, kwargs.get("size"))
            if self._bytes > self._most_bytes:
                raise self._refusal(f"{self._bytes / 1e9:.3g} GB")
            if self._tensors > self._most_tensors:
                raise self._refusal(f"{self._tensors} tensors")
        return func(*args, **kwargs)

    def _refusal(self, ordered: str) -> CompressitError:
        return CompressitError(
            f"its network would take {ordered} or more, which does not go with {self._file}",
            "the file is damaged, or was made to exhaust the memory",
        )


def _value_bytes(args: Sequence[Any], dtype: torch.dtype | None) -> int:
    like = args[0].dtype if args and isinstance(args[0], torch.Tensor) else torch.get_default_dtype()
    return (dtype or like).itemsize


def _values(args: Sequence[Any], size: Any) -> int:
    """How many values a maker of tensors was asked for: `empty(2, 3)`, `empty((2, 3))`, `full((2, 3), 0.5)`."""
    if size is None:
        sizes = [a for a in args if isinstance(a, (int, tuple, list))]
        size = sizes[0] if sizes and isinstance(sizes[0], (tuple, list)) else sizes
    return math.prod(n for n in ([size] if isinstance(size, int) else size) if isinstance(n, int))
