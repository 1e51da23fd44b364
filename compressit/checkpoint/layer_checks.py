"""Checks that torch.nn layers match their tensors and have plausible numbers.

A file can set a layer's numbers, and torch's native code trusts them: attention with no heads divides by zero, an
LSTM wider than its weights reads out of bounds, padding of 2**31 crashes the process. So each layer is rebuilt from its
own numbers on the meta device: its tensors must have the same shapes and its attributes the same values. A network's
own classes are not checked.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from compressit.checkpoint.edits import Changes, numbers, plain
from compressit.checkpoint.modules import Unfilled
from compressit.errors import CompressitError

Wrong = Iterator[tuple[str, str]]
"""Attributes that do not fit, each with what is wrong."""

_NATIVE = (nn.MultiheadAttention, nn.RNNBase)
"""Subclasses pass their tensors to native code whatever their own `forward` does."""
_CHECKED = (
    *_NATIVE, nn.RNNCellBase, nn.Linear, nn.Bilinear, _ConvNd, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
    nn.Embedding, nn.EmbeddingBag, nn.PReLU,
)  # fmt: skip
_RANGES = {
    "kernel_size": (1, 64), "stride": (1, 64), "dilation": (1, 64), "groups": (1, 2**16), "padding": (0, 8),
    "output_padding": (0, 64), "output_size": (1, 64), "size": (1, 64), "scale_factor": (0, 8),
    "upscale_factor": (1, 8), "downscale_factor": (1, 64), "num_layers": (1, 64), "num_groups": (1, 2**16),
}  # fmt: skip
"""The smallest value torch accepts, and the largest to which a file may raise a value that the builder set lower."""
_MOST_SIZE, _MOST = 2**20, 2**31 - 1
"""The largest values that even a builder may set, since a file names its options: of the above, and of any number."""


def check(model: nn.Module, changes: Changes | None = None) -> None:
    """Raises CompressitError, naming layer, attribute and value, if a torch.nn layer does not fit.

    Widths must match the tensors. Other numbers from which torch computes sizes (stride, padding …) must be in the
    range that torch accepts. A number that an edit raised, or that belongs to a layer an edit built, must be in a
    narrower range of common values.
    """
    for at, layer in model.named_modules():
        kind = _kind(layer)
        if kind is None:
            continue
        for name, what in chain(_out_of_range(layer, changes or Changes()), _unlike(layer, kind)):
            raise CompressitError(
                f"{name} of the {type(layer).__name__} at {at or 'the top level'} {what[:300]}",
                "if you changed a layer's tensors by hand, update its numbers too before saving",
            )


def _kind(layer: nn.Module) -> type[nn.Module] | None:
    """The torch.nn class of a layer, or the one it derives from; None for containers and the network's own classes."""
    for cls in type(layer).__mro__:
        if cls.__module__.startswith("torch.nn.modules."):
            own = cls is nn.Module or cls.__module__.endswith(".container")
            return None if own else cls
    return None


def _unlike(layer: nn.Module, kind: type[nn.Module]) -> Wrong:
    """What differs from a layer rebuilt from the same numbers."""
    # A custom forward may use its tensors in its own way.
    if not issubclass(kind, _CHECKED if type(layer).forward is kind.forward else _NATIVE):
        return
    told = ", ".join(f"{name} {value}" for name, value in numbers(layer) if type(value) in (int, tuple, bool))
    try:
        twin = _made_again(layer, kind)
    except Exception as error:  # noqa: BLE001 - whatever torch raises for incompatible numbers
        yield "numbers", f"do not fit together: {error} ({told})"
        return
    for name in sorted(_tensors(twin) | _tensors(layer)):
        has, makes = _shape(layer, name), _shape(twin, name)
        # Only native code confuses tensors when one is missing or left over.
        exact = isinstance(layer, _NATIVE) and "." not in name
        if has != makes and (exact or (has is not None and makes is not None)):
            yield name, f"has shape {has}; the layer's numbers imply {makes} ({told})"
    for name, value in numbers(twin):
        if plain(actual := getattr(layer, name, None)) != plain(value):
            yield name, f"is {actual!r}; it must be {value}"


def _made_again(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The layer rebuilt from its own numbers, on the meta device."""
    made = nn.RNNBase if issubclass(kind, nn.RNNBase) else kind  # LSTM and GRU have no explicit signature
    takes = inspect.signature(made).parameters
    given = {name: value for name, value in vars(layer).items() if name in takes}
    bias = "in_proj_bias" if isinstance(layer, nn.MultiheadAttention) else "bias"
    if "bias" in takes:
        given.setdefault("bias", getattr(layer, bias, None) is not None)
    if "add_bias_kv" in takes:
        given["add_bias_kv"] = getattr(layer, "bias_k", None) is not None
    with Unfilled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(**given, device="meta")


def _tensors(layer: nn.Module) -> set[str]:
    if isinstance(layer, nn.RNNBase):
        return {name for names in layer._all_weights for name in names}
    own = {*layer._parameters, *layer._buffers}
    return {*own, "out_proj.weight"} if isinstance(layer, nn.MultiheadAttention) else own


def _shape(layer: nn.Module, path: str) -> tuple[int, ...] | None:
    """A tensor's shape, even if it is computed; None if it does not exist or its parts do not fit."""
    value: Any = layer
    try:
        for name in path.split("."):
            value = getattr(value, name, None)
    except Exception:  # noqa: BLE001 - whatever a parametrization raises
        return None
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _out_of_range(layer: nn.Module, changes: Changes) -> Wrong:
    for name, value in vars(layer).items():
        if name.startswith("_"):  # private to torch: no edit can set it
            continue
        found, before = _flat(value), _flat(changes.before.get((layer, name)))
        edited = name in _RANGES and (layer, name) in changes.before
        if edited and not {type(n) for n in found} <= {type(n) for n in before}:
            yield name, f"is {repr(value)[:100]}; it must be of the same type as {before}"
            return
        least, most = _limits(layer, name, changes)
        kinds = (int, float) if name in _RANGES else (int,)
        if any(type(n) in kinds and not least <= n <= most for n in found):
            yield name, f"is {repr(value)[:100]}; it must be between {least} and {most}"


def _limits(layer: nn.Module, name: str, changes: Changes) -> tuple[int, float]:
    if name not in _RANGES:
        return -_MOST, _MOST
    least, most = _RANGES[name]
    kernel, dilation = _flat(getattr(layer, "kernel_size", 1)), _flat(getattr(layer, "dilation", 1))
    if name == "padding" and not hasattr(layer, "kernel_size"):
        least = -_MOST_SIZE  # nn.ZeroPad2d and similar layers can crop
    elif name == "padding" and all(type(n) is int for n in (*kernel, *dilation)):
        # Padding by half the kernel's span keeps the outputs as large as the inputs.
        most += max(dilation, default=1) * (max(kernel, default=1) - 1) // 2
    before = _flat(changes.before.get((layer, name)))
    of_weight = name == "kernel_size" and isinstance(layer, _ConvNd)
    if of_weight or (before == (None,) and layer not in changes.made):
        return least, _MOST_SIZE
    return least, most if layer in changes.made else max([most, *(n for n in before if n is not None)])


def _flat(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(n for part in value for n in _flat(part))
    return (value,)
