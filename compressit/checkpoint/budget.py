"""A limit on what a file makes torch compute: a kilobyte must not order gigabytes, a million layers, or hours."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from compressit.checkpoint.foreseen import CALL, foresee, tensors_in
from compressit.errors import CompressitError

FREE_BYTES, GROWTH = 2**28, 1000
"""A net may be this many times its file before its edits: pruning to 3 % of the channels leaves a 1000th."""
FREE_TENSORS, MORE_TENSORS = 1000, 10
"""Tensors may be made for each of the file: layers that edits replace and helpers are not in it."""
FREE_LIVE, LIVE_GROWTH = 110 * 10**6, 9
"""Bytes that were written to and are there at one moment, beside those of the file's own tensors: with them, and with
what torch takes for itself, ten times the file and 200 MB."""
FREE_WORK, WORK_GROWTH = 2**36, 4096
"""Multiply-adds: some seconds on one core."""

_EMPTY = frozenset((torch.ops.aten.empty, torch.ops.aten.empty_strided, torch.ops.aten.empty_like,
                    torch.ops.aten.new_empty, torch.ops.aten.new_empty_strided))  # fmt: skip


class ExhaustingError(CompressitError):
    """What a file orders goes with neither its size nor its number of tensors."""


@dataclass(frozen=True)
class Allowance:
    """The most that one file may order: bytes at one moment, multiply-adds, bytes and tensors in all."""

    file: str  # how the file is described where it orders more
    live: float
    work: float
    total: float = math.inf
    tensors: float = math.inf

    @staticmethod
    def building(file_bytes: int, tensors: int, drawn: bool = False) -> Allowance:
        """For the net before the file's tensors are in it; `drawn`: with values of its own in all of them."""
        total = max(FREE_BYTES, GROWTH * file_bytes)
        live = total if drawn else _live(file_bytes)
        file = f"{_file(file_bytes)} with {tensors} tensors"
        return Allowance(file, live, _work(file_bytes), total, FREE_TENSORS + MORE_TENSORS * tensors)

    @staticmethod
    def running(file_bytes: int, share: float = 1.0) -> Allowance:
        """For a forward pass of the net; `share` of it only, where another machine is to manage with the whole."""
        return Allowance(_file(file_bytes), share * _live(file_bytes), share * _work(file_bytes))


class Budget(TorchDispatchMode):
    """A block in which every call of torch is counted before it is made, by the shapes it is given.

    Raises ExhaustingError where a call would exceed the allowance. Memory that nothing was written to counts for the
    total only.
    """

    def __init__(self, allowance: Allowance, there: int = 0) -> None:
        """`there`: bytes made for the block already."""
        super().__init__()
        self._allowed, self._there = allowance, there
        self._written: dict[int, tuple[StorageWeakRef, int]] = {}  # by storage
        self._unwritten: dict[int, tuple[StorageWeakRef, int]] = {}
        self._live, self._total, self._work, self._tensors = there, 0, 0, 0
        self._check(there)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if _is_view(func):
            return func(*args, **kwargs)
        tensors = list(tensors_in((*args, *kwargs.values())))
        given = {place for tensor in tensors if (place := _place(tensor)) is not None}
        if tensors and not given:  # a trial without memory
            self._work += CALL
            return func(*args, **kwargs)
        empty = func.overloadpacket in _EMPTY
        if self._unwritten and func._schema.is_mutable:
            for place in given & self._unwritten.keys():
                self._keep(place, self._unwritten.pop(place))
        self._count(func, args, kwargs, empty)
        result = func(*args, **kwargs)
        for tensor in tensors_in((result,)):
            place = _place(tensor)
            if place is not None and place not in given:
                storage = tensor.untyped_storage()
                entry = StorageWeakRef(storage), storage.nbytes()
                if empty:
                    self._unwritten[place] = entry
                else:
                    self._keep(place, entry)
        return result

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], empty: bool) -> None:
        coming = foresee(func, args, kwargs)
        self._total += coming.new
        self._tensors += bool(coming.new)
        self._work += coming.work
        ordered = coming.while_running + (0 if empty else coming.new)
        if self._live + ordered > self._allowed.live:
            self._forget()
        self._check(self._live + ordered)

    def _check(self, live: int) -> None:
        """Raises ExhaustingError where something is more than is allowed."""
        for amount, most, shown in (
            (live, self._allowed.live, f"{live / 1e9:.3g} GB"),
            (self._total, self._allowed.total, f"{self._total / 1e9:.3g} GB"),
            (self._tensors, self._allowed.tensors, f"{self._tensors} tensors"),
            (self._work, self._allowed.work, f"{self._work / 1e9:.3g} billion multiply-adds"),
        ):
            if amount > most:
                raise ExhaustingError(
                    f"its network would take {shown} or more, which does not go with {self._allowed.file}",
                    "the file is damaged, or was made to exhaust memory or time; "
                    "one of your own may: load(path, limited=False)",
                )

    def _keep(self, place: int, entry: tuple[StorageWeakRef, int]) -> None:
        if place not in self._written:
            self._written[place] = entry
            self._live += entry[1]

    def _forget(self) -> None:
        """What is no longer there."""
        self._written = {place: entry for place, entry in self._written.items() if not entry[0].expired()}
        self._live = self._there + sum(size for _, size in self._written.values())


@cache
def _is_view(func: Any) -> bool:
    return bool(func.is_view)


def _file(file_bytes: int) -> str:
    return f"a file of {file_bytes / 1e6:.3g} MB"


def _live(file_bytes: int) -> int:
    return FREE_LIVE + LIVE_GROWTH * file_bytes


def _work(file_bytes: int) -> int:
    return FREE_WORK + WORK_GROWTH * file_bytes


def _place(tensor: Tensor) -> int | None:
    """Its storage; None for one without memory."""
    return None if tensor.is_meta or tensor.layout is not torch.strided else tensor.untyped_storage()._cdata
