"""Whether the layers of torch.nn fit their tensors, with numbers as layers have them.

A file sets numbers, and torch's native code takes them at their word: attention of no heads divides by zero, an
LSTM that is wider than its weights reads beyond them, padding of 2**31 ends the process. What a network's own
classes do with their numbers is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]

from compressit.checkpoint.modules import own_tensor
from compressit.errors import CompressitError

Wrong = Iterator[tuple[str, str]]
"""Attributes that do not fit, and what they should be."""


@dataclass(frozen=True)
class Changes:
    """What edits did to a model, which its builder answers for otherwise."""

    before: dict[tuple[nn.Module, str], Any] = field(
        default_factory=dict
    )  # values of the attributes that were set
    made: set[nn.Module] = field(default_factory=set)  # layers made from a file's arguments


def check(model: nn.Module, changes: Changes | None = None) -> None:
    """Raises CompressitError, naming layer, attribute and value, unless all layers of torch.nn fit.

    Widths must be those of the tensors. Other numbers that torch computes sizes with (stride, padding …) must be
    in the range it takes; one that an edit has raised, or that belongs to a layer an edit has made, in the range
    that layers have.
    """
    changes = changes or Changes()
    for at, module in model.named_modules():
        kind = _kind(module)
        if kind is None:
            continue
        for name, wanted in chain(_unfit(module, kind), _out_of_range(module, changes)):
            value = getattr(module, name, None)
            shown = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise CompressitError(
                f"{name} of the {type(module).__name__} at {at or 'its top'} is {shown[:100]}; it must be {wanted}",
                "a layer whose tensors were changed by hand needs its numbers set as well, before it is saved",
            )


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """The class of torch.nn that it is or comes from; None for a container and a class of the network's own."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules."):
            own = cls is nn.Module or cls.__module__.endswith(".container")
            return None if own else cls
    return None


def _unfit(module: nn.Module, kind: type[nn.Module]) -> Wrong:
    for cls, rule in _RULES.items():
        # A forward of its own may read its tensors in its own way; two hand them to native code all the same.
        if isinstance(module, cls) and (type(module).forward is kind.forward or cls in _UNCHECKED):
            yield from rule(module)


def _linear(layer: nn.Linear) -> Wrong:
    yield from _sized(layer, "weight", "out_features", "in_features")
    yield from _sized(layer, "bias", "out_features")


def _bilinear(layer: nn.Bilinear) -> Wrong:
    yield from _sized(layer, "weight", "out_features", "in1_features", "in2_features")
    yield from _sized(layer, "bias", "out_features")


def _conv(layer: _ConvNd) -> Wrong:
    transposed = isinstance(layer, _ConvTransposeNd)
    yield from _equal(layer, transposed=transposed)
    weight = own_tensor(layer, "weight")
    if weight is None:
        return
    if weight.ndim < 3:
        yield "weight", "of three dimensions or more"
        return
    dimensions = weight.ndim - 2
    (whole, split), groups = weight.shape[:2], layer.groups
    if not _divides(groups, whole):
        yield "groups", f"a divisor of {whole}"
        return
    inputs, outputs = (whole, split * groups) if transposed else (split * groups, whole)
    yield from _equal(layer, in_channels=inputs, out_channels=outputs, kernel_size=tuple(weight.shape[2:]))
    yield from _sized(layer, "bias", "out_channels")
    for name in ("stride", "padding", "dilation", "output_padding"):
        value = getattr(layer, name)
        if not isinstance(value, str) and len(_flat(value)) != dimensions:
            yield name, f"{dimensions} numbers"


def _norm(layer: _NormBase) -> Wrong:
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield from _sized(layer, name, "num_features")


def _group_norm(layer: nn.GroupNorm) -> Wrong:
    yield from _sized(layer, "weight", "num_channels")
    yield from _sized(layer, "bias", "num_channels")
    if not _divides(layer.num_groups, layer.num_channels):
        yield "num_groups", f"a divisor of {layer.num_channels}"


def _layer_norm(layer: nn.LayerNorm | nn.RMSNorm) -> Wrong:
    if (weight := own_tensor(layer, "weight")) is not None:
        yield from _equal(layer, normalized_shape=tuple(weight.shape))


def _embedding(layer: nn.Embedding | nn.EmbeddingBag) -> Wrong:
    yield from _sized(layer, "weight", "num_embeddings", "embedding_dim")


def _prelu(layer: nn.PReLU) -> Wrong:
    yield from _sized(layer, "weight", "num_parameters")


def _attention(layer: nn.MultiheadAttention) -> Wrong:
    out = own_tensor(layer.out_proj, "weight")
    if out is None or out.ndim != 2:  # quantised, or refused as the Linear it is
        return
    width, heads = out.shape[0], layer.num_heads
    yield from _equal(layer, embed_dim=width)
    if not width or not _divides(heads, width):
        yield "num_heads", f"a divisor of {width}"
        return
    yield from _equal(layer, head_dim=width // heads)
    if own_tensor(layer, "in_proj_weight") is not None:
        yield from _equal(layer, kdim=width, vdim=width)
    yield from _sized(layer, "k_proj_weight", "embed_dim", "kdim")
    yield from _sized(layer, "v_proj_weight", "embed_dim", "vdim")
    yield from _shaped(layer.out_proj, weight=(width, width))
    yield from _shaped(
        layer, in_proj_weight=(3 * width, width), in_proj_bias=(3 * width,), q_proj_weight=(width, width),
        bias_k=(1, 1, width), bias_v=(1, 1, width),
    )  # fmt: skip


def _recurrent(layer: nn.RNNBase) -> Wrong:
    weights = layer.all_weights  # of every layer and direction: from inputs, from itself, biases, projection
    first, second = weights[0][:2]
    if not (first.ndim == second.ndim == 2 and first.numel() and second.numel()):
        yield "weight_ih_l0", "of two dimensions and not empty, and weight_hh_l0 as well"
        return
    gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    directions, projected = 2 if hasattr(layer, "weight_ih_l0_reverse") else 1, hasattr(layer, "weight_hr_l0")
    hidden = first.shape[0] // gates
    out = second.shape[1] if projected else hidden
    yield from _equal(
        layer, input_size=first.shape[1], hidden_size=hidden, proj_size=out if projected else 0,
        num_layers=len(weights) // directions, bidirectional=directions == 2, bias=hasattr(layer, "bias_ih_l0"),
    )  # fmt: skip
    for number, tensors in enumerate(weights):
        inputs = first.shape[1] if number < directions else out * directions
        wanted = {"weight_ih": (gates * hidden, inputs), "weight_hh": (gates * hidden, out)}
        wanted |= {"bias_ih": (gates * hidden,), "bias_hh": (gates * hidden,)} if layer.bias else {}
        wanted |= {"weight_hr": (out, hidden)} if projected else {}
        place = f"_l{number // directions}" + "_reverse" * (number % directions)
        for (name, shape), tensor in zip(wanted.items(), tensors, strict=True):
            if tuple(tensor.shape) != shape:
                yield name + place, f"of shape {shape}"


def _cell(layer: nn.RNNCellBase) -> Wrong:
    gates = 4 if isinstance(layer, nn.LSTMCell) else 3 if isinstance(layer, nn.GRUCell) else 1
    hidden = own_tensor(layer, "weight_hh")
    inputs = own_tensor(layer, "weight_ih")
    if hidden is None or inputs is None or not hidden.ndim == inputs.ndim == 2:
        return
    yield from _equal(layer, input_size=inputs.shape[1], hidden_size=hidden.shape[1])
    tall = gates * hidden.shape[1]
    yield from _shaped(layer, weight_ih=(tall, inputs.shape[1]), weight_hh=(tall, hidden.shape[1]))
    yield from _shaped(layer, bias_ih=(tall,), bias_hh=(tall,))


_RULES: Mapping[type[nn.Module], Callable[[Any], Wrong]] = {
    nn.Linear: _linear, nn.Bilinear: _bilinear, _ConvNd: _conv, _NormBase: _norm, nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm, nn.RMSNorm: _layer_norm, nn.Embedding: _embedding, nn.EmbeddingBag: _embedding,
    nn.PReLU: _prelu, nn.MultiheadAttention: _attention, nn.RNNBase: _recurrent, nn.RNNCellBase: _cell,
}  # fmt: skip
_UNCHECKED = (nn.MultiheadAttention, nn.RNNBase)

_RANGES = {
    "kernel_size": (1, 64), "stride": (1, 64), "dilation": (1, 64), "groups": (1, 2**16), "padding": (0, 8),
    "output_padding": (0, 64), "output_size": (1, 64), "size": (1, 64), "scale_factor": (0, 8),
    "upscale_factor": (1, 8), "downscale_factor": (1, 64),
}  # fmt: skip
"""The least that torch takes, and the most that a file may raise a number to that was smaller when built."""
_MOST_SIZE, _MOST = 2**20, 2**31 - 1
"""What even a builder may set, whose options a file names: of the above, and of any number."""


def _out_of_range(module: nn.Module, changes: Changes) -> Wrong:
    for name, value in vars(module).items():
        if name.startswith("_"):  # torch's own, which no edit reaches
            continue
        numbers, before = _flat(value), _flat(changes.before.get((module, name)))
        edited = name in _RANGES and (module, name) in changes.before
        if edited and not {type(n) for n in numbers} <= {type(n) for n in before}:
            yield name, f"numbers as in {before}"
            return
        least, most = _limits(module, name, changes)
        kinds = (int, float) if name in _RANGES else (int,)
        if any(type(n) in kinds and not least <= n <= most for n in numbers):
            yield name, f"from {least} to {most}"


def _limits(module: nn.Module, name: str, changes: Changes) -> tuple[int, float]:
    if name not in _RANGES:
        return -_MOST, _MOST
    least, most = _RANGES[name]
    kernel, dilation = _flat(getattr(module, "kernel_size", 1)), _flat(getattr(module, "dilation", 1))
    if name == "padding" and not hasattr(module, "kernel_size"):
        least = -_MOST_SIZE  # nn.ZeroPad2d and its like can crop
    elif name == "padding" and all(type(n) is int for n in (*kernel, *dilation)):
        # Half of what the kernel spans leaves the outputs as large as the inputs.
        most += max(dilation, default=1) * (max(kernel, default=1) - 1) // 2
    before = _flat(changes.before.get((module, name)))
    of_weight = name == "kernel_size" and isinstance(module, _ConvNd)
    if of_weight or (before == (None,) and module not in changes.made):
        return least, _MOST_SIZE
    return least, most if module in changes.made else max([most, *(n for n in before if n is not None)])


def _sized(layer: nn.Module, tensor: str, *attributes: str) -> Wrong:
    """Each attribute is the size of one dimension of the tensor, if the layer has that."""
    value = own_tensor(layer, tensor)
    if value is None:
        return
    if value.ndim != len(attributes):
        yield tensor, f"of {len(attributes)} dimension(s)"
        return
    yield from _equal(layer, **dict(zip(attributes, value.shape, strict=True)))


def _shaped(layer: nn.Module, **wanted: tuple[int, ...]) -> Wrong:
    for name, shape in wanted.items():
        tensor = own_tensor(layer, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            yield name, f"of shape {shape}"


def _equal(layer: nn.Module, **wanted: Any) -> Wrong:
    for name, value in wanted.items():
        actual = getattr(layer, name, None)
        actual = tuple(actual) if isinstance(actual, (list, tuple)) else actual
        if actual != value or any(
            isinstance(n, float) or isinstance(n, bool) != isinstance(value, bool) for n in _flat(actual)
        ):
            yield name, str(value)


def _divides(number: Any, whole: Any) -> bool:
    return type(number) is type(whole) is int and number >= 1 and whole % number == 0


def _flat(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(n for part in value for n in _flat(part))
    return (value,)
