"""A limit on what building a net may allocate: a file of a kilobyte must not order gigabytes."""

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

_MAKERS = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.Tensor.new_zeros,
     torch.Tensor.new_ones, torch.Tensor.new_empty, torch.Tensor.new_full)
)  # fmt: skip


class Budget(TorchFunctionMode):
    """A block in which new tensors are counted, at 4 bytes a value, before they are made.

    Raises CompressitError when a net takes more than its file's size can explain.
    """

    def __init__(self, file_bytes: int) -> None:
        super().__init__()
        self._most = max(FREE_BYTES, GROWTH * file_bytes)
        self._file_bytes = file_bytes
        self._ordered = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _MAKERS:
            self._ordered += 4 * _values(args, (kwargs or {}).get("size"))
            if self._ordered > self._most:
                raise CompressitError(
                    f"its network would take {self._ordered / 1e9:.3g} GB or more, which does not go with a "
                    f"file of {self._file_bytes / 1e6:.3g} MB",
                    "the file is damaged, or was made to exhaust the memory",
                )
        return func(*args, **(kwargs or {}))


def _values(args: Sequence[Any], size: Any) -> int:
    """How many values a maker of tensors was asked for: `empty(2, 3)`, `empty((2, 3))`, `full((2, 3), 0.5)`."""
    if size is None:
        sizes = [a for a in args if isinstance(a, (int, tuple, list))]
        size = sizes[0] if sizes and isinstance(sizes[0], (tuple, list)) else sizes
    return math.prod(n for n in ([size] if isinstance(size, int) else size) if isinstance(n, int))
