"""A limit on what a file makes torch compute: a kilobyte must not order gigabytes, a million layers, or hours."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from compressit.checkpoint.foreseen import CALL, Foreseen, Kind, foresee, kind_of, tensors_in
from compressit.errors import CompressitError

FREE_BYTES, GROWTH = 2**28, 1000
"""A net may be this many times its file before its edits: pruning to 3 % of the channels leaves a 1000th."""
FREE_TENSORS, MORE_TENSORS = 1000, 10
"""Tensors may be made for each of the file: layers that edits replace and helpers are not in it."""
FREE_LIVE, LIVE_GROWTH = 110 * 10**6, 9
"""Bytes that were written to and are there at one moment, beside those of the file's own tensors: with them, and with
what torch takes for itself, ten times the file and 200 MB."""
FREE_WORK, WORK_GROWTH = 2**36, 4096
"""MACs: some seconds on one core."""

_EMPTY = frozenset((torch.ops.aten.empty, torch.ops.aten.empty_strided, torch.ops.aten.empty_like,
                    torch.ops.aten.new_empty, torch.ops.aten.new_empty_strided))  # fmt: skip


class ExhaustingError(CompressitError):
    """What a file orders goes with neither its size nor its number of tensors."""


@dataclass(frozen=True)
class Allowance:
    """The most that one file may order: bytes at one moment, MACs, bytes and tensors in all."""

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
        self._eager = ExitStack()
        self._allowed, self._there = allowance, there
        self._written: dict[int, tuple[StorageWeakRef, int]] = {}  # by storage
        self._unwritten: dict[int, tuple[StorageWeakRef, int]] = {}
        self._live, self._total, self._work, self._tensors = there, 0, 0, 0
        self._check(there)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch's wrapper for that imports its compiler, and costs more at a call than what is counted here."""
        return False

    def __enter__(self) -> Self:
        if (
            "torch._dynamo" in sys.modules
        ):  # what is compiled runs as written, or counting were compiled with it
            self._eager.enter_context(torch.compiler.set_stance("force_eager"))
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._eager.close()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        if kind is Kind.VIEW:
            return func(*args, **kwargs)
        given: set[int] = set()
        tensors: list[Tensor] = []
        if kind is not Kind.SIZED and kind is not Kind.FROM_NONE:
            tensors = tensors_in((*args, *kwargs.values()))
            held = [tensor for tensor in tensors if _has_memory(tensor)]
            if (tensors and not held) or (kind is Kind.COPY and _on_meta(kwargs.get("device"))):
                # a trial without memory
                self._work += CALL
                self._check(self._live)
                return func(*args, **kwargs)
            # One that makes nothing needs no look at what it was given, unless it may be the first to write there.
            if kind is not Kind.IN_PLACE or self._unwritten:
                given = {_place(tensor) for tensor in held}
            if self._unwritten and func._schema.is_mutable:
                for place in given & self._unwritten.keys():
                    self._keep(place, self._unwritten.pop(place))
        empty = _is_empty(func)
        self._count(foresee(func, args, kwargs, tensors), empty)
        result = func(*args, **kwargs)
        if kind is Kind.IN_PLACE:
            return result
        for tensor in tensors_in((result,)):
            if not _has_memory(tensor):
                continue
            storage = tensor.untyped_storage()
            if (place := storage._cdata) not in given:
                entry = StorageWeakRef(storage), storage.nbytes()
                if empty:
                    self._unwritten[place] = entry
                else:
                    self._keep(place, entry)
        return result

    def _count(self, coming: Foreseen, empty: bool) -> None:
        self._total += coming.new
        self._tensors += bool(coming.new)
        self._work += coming.work
        ordered = coming.while_running + (0 if empty else coming.new)
        if self._live + ordered > self._allowed.live:
            self._forget()
        self._check(self._live + ordered)

    def _check(self, live: int) -> None:
        """Raises ExhaustingError where something is more than is allowed."""
        allowed = self._allowed
        if live > allowed.live:
            shown = f"{live / 1e9:.3g} GB"
        elif self._total > allowed.total:
            shown = f"{self._total / 1e9:.3g} GB"
        elif self._tensors > allowed.tensors:
            shown = f"{self._tensors} tensors"
        elif self._work > allowed.work:
            shown = f"{self._work / 1e9:.3g} billion MACs"
        else:
            return
        raise ExhaustingError(
            f"its network would take {shown} or more, which does not go with {allowed.file}",
            "the file is damaged, or was made to exhaust memory or time; "
            "one of your own may: limited=False in Python, --unlimited for a command",
        )

    def _keep(self, place: int, entry: tuple[StorageWeakRef, int]) -> None:
        if place not in self._written:
            self._written[place] = entry
            self._live += entry[1]

    def _forget(self) -> None:
        """What is no longer there."""
        self._written = {place: entry for place, entry in self._written.items() if not entry[0].expired()}
        self._live = self._there + sum(size for _, size in self._written.values())


def _file(file_bytes: int) -> str:
    return f"a file of {file_bytes / 1e6:.3g} MB"


def _live(file_bytes: int) -> int:
    return FREE_LIVE + LIVE_GROWTH * file_bytes


def _work(file_bytes: int) -> int:
    return FREE_WORK + WORK_GROWTH * file_bytes


@cache
def _is_empty(func: Any) -> bool:
    return func.overloadpacket in _EMPTY


def _on_meta(device: torch.device | None) -> bool:
    return device is not None and device.type == "meta"


def _has_memory(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.layout is torch.strided


def _place(tensor: Tensor) -> int:
    """The storage of one with memory."""
    return tensor.untyped_storage()._cdata
