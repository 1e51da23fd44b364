"""What a call of torch will make and cost, by the shapes of what it is given: known before it is made."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten

CALL = 2**17
"""What a call costs however small its tensors are, in MACs."""
_CHANGING_SIZES = ("aten::resize", "aten::set", "aten::_resize")


class Kind(Enum):
    """What an operator does with tensors, as far as it is counted."""

    VIEW = auto()
    IN_PLACE = auto()  # changes what it is given, and gives back nothing else
    SIZED = auto()  # a new tensor of the size that comes first, from none
    FROM_NONE = auto()  # any other that takes no tensors
    COPY = auto()
    AS_GIVEN = auto()
    POINTWISE = auto()
    PRODUCT = auto()
    CONVOLUTION = auto()
    POOL = auto()
    ATTENTION = auto()
    RECURRENT = auto()
    OTHER = auto()


_BY_NAME = {
    Kind.SIZED: (aten.empty, aten.empty_strided, aten.zeros, aten.ones, aten.full, aten.rand, aten.randn),
    Kind.COPY: (aten._to_copy,),
    Kind.AS_GIVEN: (aten._native_batch_norm_legit_no_training, aten.native_batch_norm, aten.clone),
    Kind.PRODUCT: (aten.mm, aten.addmm, aten.bmm, aten.baddbmm),
    Kind.CONVOLUTION: (aten.convolution,),
    Kind.POOL: (
        aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d,
    ),
    Kind.ATTENTION: (
        aten._scaled_dot_product_flash_attention_for_cpu, aten._scaled_dot_product_flash_attention,
    ),
    Kind.RECURRENT: (aten.mkldnn_rnn_layer,),
}  # fmt: skip


@cache
def kind_of(func: Any) -> Kind:
    """Of an overload; found once, since looking it up at every call would take longer than a small call does."""
    name, mutable, packet = func._schema.name, func._schema.is_mutable, func.overloadpacket
    if func.is_view:
        return Kind.VIEW
    if name.endswith("_") and mutable and not name.startswith(_CHANGING_SIZES):
        return Kind.IN_PLACE
    named = next((kind for kind, packets in _BY_NAME.items() if packet in packets), None)
    if not any("Tensor" in str(argument.type) for argument in func._schema.arguments):
        return Kind.SIZED if named is Kind.SIZED else Kind.FROM_NONE
    if named is not None and named is not Kind.SIZED:
        return named
    return Kind.POINTWISE if torch.Tag.pointwise in func.tags and not mutable else Kind.OTHER


@dataclass(frozen=True)
class Foreseen:
    """Bytes of new tensors, bytes needed only while it runs, and MACs (about; at least the values moved)."""

    new: int
    while_running: int
    work: int


def foresee(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
) -> Foreseen:
    """Of a call as a TorchDispatchMode gets it, with the `tensors` among its arguments.

    Nothing is new where torch knows no shapes before the call, because they depend on values.
    """
    kind = kind_of(func)
    given = sum([t.numel() for t in tensors])
    if kind is Kind.IN_PLACE:
        return Foreseen(0, 0, CALL + given)
    results, larger = _results(func, kind, args, kwargs, tensors)
    new, moved = larger, given
    for shape, size in results:
        values = math.prod(shape)
        new += values * size
        moved += values
    extra, work = 0, moved
    if kind is Kind.CONVOLUTION and results:
        extra, work = _convolution(args, *results[0])
    elif kind is Kind.PRODUCT:
        work = math.prod(results[0][0]) * tensors[-2].shape[-1]
    elif kind is Kind.POOL and results:
        work = moved * math.prod(args[1] if isinstance(args[1], Sequence) else (args[1],))
    elif kind is Kind.ATTENTION:
        work = 2 * args[0].numel() * args[1].shape[-2]
    elif kind is Kind.RECURRENT:
        work = math.prod(args[0].shape[:2]) * (args[1].numel() + args[2].numel())
    return Foreseen(new, extra, CALL + work)


def tensors_in(values: Sequence[Any]) -> list[Tensor]:
    """Those in tuples and lists of any depth."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += tensors_in(value)
    return found


_Result = tuple[Sequence[int], int]
"""The shape of a new tensor, and the bytes of one of its values."""


def _results(
    func: Any, kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
) -> tuple[list[_Result], int]:
    """The new tensors, and by how many bytes given ones grow. What is common is done here, what is not by torch."""
    if kind is Kind.SIZED:
        return [(args[0], (kwargs.get("dtype") or torch.get_default_dtype()).itemsize)], 0
    if kind is Kind.COPY:
        return [(tensors[0].shape, (kwargs.get("dtype") or tensors[0].dtype).itemsize)], 0
    if kind is Kind.AS_GIVEN:
        return [(tensors[0].shape, tensors[0].element_size())], 0
    try:
        if kind is Kind.POINTWISE and tensors:
            dtype = kwargs.get("dtype")
            size = dtype.itemsize if dtype else max(4, *(t.element_size() for t in tensors))
            return [(torch.broadcast_shapes(*(t.shape for t in tensors)), size)], 0
        if kind is Kind.PRODUCT:
            one, other = tensors[-2:]
            return [((*one.shape[:-1], other.shape[-1]), one.element_size())], 0
        if kind is Kind.CONVOLUTION:
            return [(_convolved(*args), args[0].element_size())], 0
        return _by_torch(func, args, kwargs)
    except Exception:  # noqa: BLE001 - shapes that do not fit: the call says it better; or none before its values
        return [], 0


def _by_torch(func: Any, args: Any, kwargs: Any) -> tuple[list[_Result], int]:
    """Asks torch, with tensors that have shapes and no memory."""
    stand_ins: dict[int, tuple[Tensor, int]] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        shape = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        stand_ins[shape.untyped_storage()._cdata] = shape, shape.untyped_storage().nbytes()
        return shape

    args, kwargs = tree_map_only(Tensor, stand_in, (args, dict(kwargs)))
    if kwargs.get("device") is not None or not stand_ins:
        kwargs["device"] = "meta"
    if "generator" in kwargs:
        kwargs["generator"] = None
    found = tensors_in((func(*args, **kwargs),))
    made: list[_Result] = [
        (t.shape, t.element_size()) for t in found if t.untyped_storage()._cdata not in stand_ins
    ]
    larger = sum(max(0, t.untyped_storage().nbytes() - before) for t, before in stand_ins.values())
    return made, larger


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> tuple[int, ...]:  # fmt: skip
    each = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    if transposed:
        sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in each)
        return (x.shape[0], weight.shape[1] * groups, *sizes)
    return (
        x.shape[0],
        weight.shape[0],
        *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in each),
    )


def _convolution(args: tuple[Any, ...], shape: Sequence[int], size: int) -> tuple[int, int]:
    """Bytes while it runs, and MACs.

    The bytes are copies in blocks of 16 channels (oneDNN), or what each output sees of the inputs in columns.
    """
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
    if not (x.numel() and weight.numel() and math.prod(shape)):
        return 0, 0
    fan = weight.numel() // weight.shape[0]
    work = (x.numel() if transposed else math.prod(shape)) * fan
    backend = torch._C._select_conv_backend(
        x, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
        None if bias is None else [len(bias)],
    )  # fmt: skip
    if "Mkldnn" in str(backend):
        blocks = (n * -(-channels // 16) * 16 * math.prod(rest) for n, channels, *rest in (x.shape, shape))
        return size * sum(blocks), work
    small = x.shape if transposed else shape
    return size * small[0] * math.prod(small[2:]) * fan * groups, work
