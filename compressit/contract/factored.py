"""A layer as a product of two, which checkpoints rebuild without the plugin that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compressit.errors import CompressitError

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}
_LINEAR = ("in_features", "out_features")
_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode",
)  # fmt: skip


class Factored(nn.Sequential):
    """Linear layers, or convolutions, in place of one: each hands its outputs on to the next.

    `factor.low_rank` makes it of two: `rank` outputs without a bias, then the layer's own.
    """


def described(layer: Factored) -> dict[str, Any]:
    """The arguments of its layers as JSON values. Raises CompressitError for one that is not plain."""
    return {"layers": [_arguments(part) for part in layer]}


def built(arguments: Mapping[str, Any]) -> Factored:
    """The layer with new weights. Raises CompressitError for arguments that `described` does not give."""
    layers = arguments.get("layers")
    if set(arguments) != {"layers"} or not isinstance(layers, list) or not layers:
        raise CompressitError("it needs a list of `layers`")
    return Factored(*map(_layer, layers))


def _arguments(layer: nn.Module) -> dict[str, Any]:
    name = type(layer).__name__
    if _KINDS.get(name) is not type(layer):
        raise CompressitError(f"it holds a {name}, not one of {', '.join(_KINDS)}")
    values = {own: getattr(layer, own) for own in _names(name)}
    values = {own: list(value) if isinstance(value, tuple) else value for own, value in values.items()}
    return {"kind": name, **values, "bias": getattr(layer, "bias", None) is not None}


def _layer(arguments: Any) -> nn.Module:
    given = dict(arguments) if isinstance(arguments, Mapping) else {}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS or set(given) != {*_names(kind), "bias"}:
        raise CompressitError(f"a layer of it cannot be built of {arguments!r:.200}")
    return _KINDS[kind](**{own: tuple(v) if isinstance(v, list) else v for own, v in given.items()})


def _names(kind: str) -> tuple[str, ...]:
    return _LINEAR if kind == "Linear" else _CONVOLUTION
