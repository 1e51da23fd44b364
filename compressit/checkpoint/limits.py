"""Limits what a file can make torch compute: a 1 kB file must not demand gigabytes, a million layers, or hours."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import arg_tree_leaves, tree_map_only

from compressit.errors import CompressitError

FREE_BYTES, GROWTH = 2**28, 1000
"""Before its edits, a net may be this many times the size of its file: pruning to 3 % of the channels leaves 1/1000."""
FREE_TENSORS, MORE_TENSORS = 1000, 10
"""Tensors that may be created: a fixed number, and so many per tensor in the file. A net also creates helpers, and
layers that edits then replace."""
FREE_LIVE, LIVE_GROWTH = 110 * 10**6, 9
"""Bytes written to and alive at one moment, besides the file's own tensors. Including those and torch's own memory:
ten times the file plus 200 MB."""
FREE_WORK, WORK_GROWTH = 2**36, 4096
"""MACs: a few seconds on one core."""
CALL = 2**17
"""The minimum cost of a call, in MACs."""

aten = torch.ops.aten
_EMPTY = (aten.empty, aten.empty_strided, aten.empty_like, aten.new_empty, aten.new_empty_strided)
_SIZED = (aten.empty, aten.zeros, aten.ones)
_NORMS = (aten.native_batch_norm, aten._native_batch_norm_legit_no_training)
_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
_CHANGING_SIZES = ("aten::resize", "aten::set", "aten::_resize")


class ExhaustingError(CompressitError):
    """A file demands more memory or computation than its size or number of tensors justifies."""


@dataclass(frozen=True)
class Allowance:
    """The limits for one file: bytes alive at one moment, MACs, total bytes, total tensors."""

    file: str  # how error messages describe the file
    live: float
    work: float
    total: float = math.inf
    tensors: float = math.inf

    @staticmethod
    def building(file_bytes: int, tensors: int, drawn: bool = False) -> Allowance:
        """The limits for building the net, before it gets the file's tensors; `drawn`: its own are initialized."""
        passes = Allowance.running(file_bytes)
        total = max(FREE_BYTES, GROWTH * file_bytes)
        file = f"{passes.file} with {tensors} tensors"
        live = total if drawn else passes.live
        return Allowance(file, live, passes.work, total, FREE_TENSORS + MORE_TENSORS * tensors)

    @staticmethod
    def running(file_bytes: int, share: float = 1.0) -> Allowance:
        """The limits for a forward pass; `share` scales them down, to leave a margin for other machines."""
        live, work = FREE_LIVE + LIVE_GROWTH * file_bytes, FREE_WORK + WORK_GROWTH * file_bytes
        return Allowance(f"a file of {file_bytes / 1e6:.3g} MB", share * live, share * work)


class Budget(TorchDispatchMode):
    """A block in which every torch call is counted before it runs, by the shapes of its arguments.

    Raises ExhaustingError if a call would exceed the allowance. Memory that was never written to counts toward the
    total only.
    """

    def __init__(self, allowance: Allowance, there: int = 0) -> None:
        """`there`: bytes already allocated for the block."""
        super().__init__()
        self._eager = ExitStack()
        self._allowed, self._there = allowance, there
        self._written: dict[int, tuple[StorageWeakRef, int]] = {}  # by storage
        self._unwritten: dict[int, tuple[StorageWeakRef, int]] = {}
        self._live, self._total, self._work, self._tensors = there, 0, 0, 0
        self._order(Ordered())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Always False: torch's wrapper would import its compiler, and cost more per call than the counting itself."""
        return False

    def __enter__(self) -> Self:
        if "torch._dynamo" in sys.modules:  # run compiled code eagerly, or the counting is compiled too
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
        if func.is_view:
            return func(*args, **kwargs)
        tensors = [leaf for leaf in arg_tree_leaves(*args, **kwargs) if isinstance(leaf, Tensor)]
        given = {_storage(tensor)._cdata for tensor in tensors if _has_memory(tensor)}
        device = kwargs.get("device")
        if (tensors and not given) or (device is not None and device.type == "meta"):
            self._order(Ordered())  # no memory is involved
            return func(*args, **kwargs)
        if self._unwritten and func._schema.is_mutable:
            for place in given & self._unwritten.keys():
                self._keep(place, *self._unwritten.pop(place))
        self._order(ordered(func, args, kwargs, tensors))
        result = func(*args, **kwargs)
        for tensor in arg_tree_leaves(result):
            if not isinstance(tensor, Tensor) or not _has_memory(tensor):
                continue
            storage = _storage(tensor)
            if (place := storage._cdata) in given:
                continue
            entry = StorageWeakRef(storage), storage.nbytes()
            if func.overloadpacket in _EMPTY:
                self._unwritten[place] = entry
            else:
                self._keep(place, *entry)
        return result

    def _order(self, coming: Ordered) -> None:
        """Raises ExhaustingError if this call would exceed a limit."""
        self._total += coming.new
        self._tensors += bool(coming.new)
        self._work += coming.work
        allowed = self._allowed
        if self._live + coming.live > allowed.live:
            self._written = {place: entry for place, entry in self._written.items() if not entry[0].expired()}
            self._live = self._there + sum(size for _, size in self._written.values())
        if (live := self._live + coming.live) > allowed.live:
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
            f"its network would need at least {shown}, which is too much for {allowed.file}",
            "the file is damaged, or made to exhaust memory or time; "
            "if it is your own, pass limited=False in Python or --unlimited on the command line",
        )

    def _keep(self, place: int, reference: StorageWeakRef, size: int) -> None:
        if place not in self._written:
            self._written[place] = reference, size
            self._live += size


@dataclass(frozen=True)
class Ordered:
    """A call's new bytes, the bytes it writes while running and keeps, and its MACs (at least the values moved)."""

    new: int = 0
    live: int = 0
    work: int = CALL


def ordered(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
) -> Ordered:
    """The cost of a call as a TorchDispatchMode receives it, with the `tensors` among its arguments.

    No bytes are counted as new if torch cannot know the shapes beforehand because they depend on values.
    """
    moved = sum([tensor.numel() for tensor in tensors])
    if _in_place(func):
        return Ordered(work=CALL + moved)
    made: list[Tensor]
    try:
        if (shape := _shape(func, args, tensors)) is not None:
            types = [t.dtype for t in tensors if t.is_floating_point() or t.itemsize > 4] or [torch.float32]
            dtype = kwargs.get("dtype") or max(types, key=lambda dtype: dtype.itemsize)
            made, larger = [torch.empty(shape, dtype=dtype, device="meta")], 0
        else:
            made, larger = _without_memory(func, args, kwargs)
    except Exception:  # noqa: BLE001 - shapes that do not fit (the call reports them better) or depend on values
        made, larger = [], 0
    new = larger + sum([tensor.numel() * tensor.element_size() for tensor in made])
    work = moved + sum([tensor.numel() for tensor in made])
    packet, beside = func.overloadpacket, 0
    if made and packet in _MACS:
        work = max(work, _MACS[packet](made[0], *args))
    if made and packet is aten.convolution:
        beside = _beside_convolution(made[0], *args)
    return Ordered(new, beside + (0 if packet in _EMPTY else new), CALL + work)


def _shape(func: Any, args: tuple[Any, ...], tensors: Sequence[Tensor]) -> Sequence[int] | None:
    """The output shape of the most frequent calls. Asking torch would import its compiler and take 1 ms."""
    packet = func.overloadpacket
    if packet in _SIZED:
        return args[0]
    if packet in _NORMS:
        return args[0].shape
    if packet in _PRODUCTS:
        return *tensors[-2].shape[:-1], tensors[-1].shape[-1]
    if packet is aten.convolution:
        return _convolved(*args)
    if torch.Tag.pointwise in func.tags and tensors and not func._schema.is_mutable:
        return torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return None


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> tuple[int, ...]:  # fmt: skip
    each = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    if transposed:
        sides = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in each]
        return x.shape[0], weight.shape[1] * groups, *sides
    return x.shape[0], weight.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in each)


def _without_memory(func: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], int]:
    """The new tensors, and by how many bytes existing ones grow: torch computes both on the meta device."""
    stand_ins: dict[int, tuple[Tensor, int]] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        shape = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        stand_ins[_storage(shape)._cdata] = shape, _storage(shape).nbytes()
        return shape

    args, kwargs = tree_map_only(Tensor, stand_in, (args, dict(kwargs)))
    if kwargs.get("device") is not None or not stand_ins:
        kwargs["device"] = "meta"
    if "generator" in kwargs:
        kwargs["generator"] = None
    found = [leaf for leaf in arg_tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
    made = [tensor for tensor in found if _storage(tensor)._cdata not in stand_ins]
    return made, sum(max(0, _storage(shape).nbytes() - before) for shape, before in stand_ins.values())


def _product(out: Tensor, *args: Any) -> int:
    """MACs of multiplying the last two matrices."""
    return out.numel() * [arg for arg in args if isinstance(arg, Tensor)][-2].shape[-1]


def _pooling(out: Tensor, x: Tensor, kernel: Any, *rest: Any) -> int:
    return (out.numel() + x.numel()) * math.prod(kernel if isinstance(kernel, Sequence) else (kernel,))


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    transposed = rest[4]
    return (x if transposed else out).numel() * (weight.numel() // max(1, weight.shape[0]))


def _attention(out: Tensor, query: Tensor, key: Tensor, *rest: Any) -> int:
    return 2 * query.numel() * key.shape[-2]


def _recurrent(out: Tensor, x: Tensor, from_inputs: Tensor, from_itself: Tensor, *rest: Any) -> int:
    return math.prod(x.shape[:2]) * (from_inputs.numel() + from_itself.numel())


_MACS: Mapping[Any, Callable[..., int]] = {
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.max_pool3d_with_indices), _pooling),
    **dict.fromkeys((aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d), _pooling),
    aten.convolution: _convolution,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten.mkldnn_rnn_layer: _recurrent,
}
"""MACs of a call, from its result and arguments, for calls that cost more than the values they move."""


def _beside_convolution(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> int:
    """Extra bytes while it runs: copies in blocks of 16 channels (oneDNN), or the input patch of each output."""
    if not (x.numel() and weight.numel() and out.numel()):
        return 0
    backend = torch._C._select_conv_backend(x, weight, bias, *rest, None if bias is None else [len(bias)])
    size, transposed, groups = x.element_size(), rest[3], rest[5]
    if "Mkldnn" in str(backend):
        shapes = (x.shape, out.shape)
        return size * sum(n * -(-channels // 16) * 16 * math.prod(sides) for n, channels, *sides in shapes)
    small = x.shape if transposed else out.shape
    return size * small[0] * math.prod(small[2:]) * (weight.numel() // weight.shape[0]) * groups


@cache
def _in_place(func: Any) -> bool:
    """Whether it only changes its arguments and returns nothing new."""
    name = func._schema.name
    return name.endswith("_") and func._schema.is_mutable and not name.startswith(_CHANGING_SIZES)


def _has_memory(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.layout is torch.strided


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
