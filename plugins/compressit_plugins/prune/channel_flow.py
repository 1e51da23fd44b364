"""Follows each channel through a forward pass in which every value carries the number of its channel.

Torch-Pruning follows modules and guesses what happens between them. Here every operation that moves values (view,
permutation, concatenation, padding, flip) is also applied to a tensor of channel numbers, so we know where each channel
goes. Channels that are added become one class. Each layer records which class is at which of its positions. An
operation that is not understood taints the classes of its inputs: nothing is concluded from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from compressit import InputTensors, call
from compressit_plugins.prune.channel_numbers import STAYS, alike, along, compact, constant, padded
from compressit_plugins.prune.functional_weights import Borrowed, loose_parameters
from compressit_plugins.prune.places import line_now

_BATCH_NORM = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)  # pyright: ignore[reportPrivateUsage]
_CONV = nn.modules.conv._ConvNd  # pyright: ignore[reportPrivateUsage]
_LAYERS = (_CONV, nn.Linear, *_BATCH_NORM, nn.LayerNorm, nn.GroupNorm, nn.PReLU, nn.MultiheadAttention)
_MOVES = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "slice", "select", "split",
    "split_with_sizes", "chunk", "unbind", "squeeze", "unsqueeze", "cat", "stack", "flip", "roll", "index_select",
    "repeat", "clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "native_channel_shuffle", "narrow", "movedim", "index",
}  # fmt: skip
_SAME = {"_softmax", "_log_softmax", "native_dropout", "dropout", "native_layer_norm", "native_group_norm",
         "native_batch_norm", "_fused_rms_norm", "cumsum"}  # fmt: skip
_REDUCE = {"mean", "sum", "amax", "amin", "std", "var", "logsumexp"}


@dataclass(frozen=True)
class Wiring:
    """The result of a pass. Classes are positive numbers; 0 is not a channel of a layer."""

    # The class of each position, by (layer or parameter, "in", "out" or "both").
    sides: Mapping[tuple[str, str], Tensor]
    rows: Sequence[Tensor]  # (r, c) classes: the same number must be removed from each of the r rows
    tainted: Mapping[int, str]  # class -> the operation that was not understood
    fixed: frozenset[int]  # classes that reach the output or meet padding
    dims: Mapping[str, int]  # channel dimension of each parameter outside layers


def wiring(model: nn.Module, example: InputTensors) -> Wiring:
    """Runs `model` (in eval mode, with storage) once on `example` (1, ...) and follows its channels."""
    pass_ = _Pass(model)
    layers = {id(m.weight): (n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | _CONV)}
    hooks: list[Any] = []
    for name, module in model.named_modules():
        if isinstance(module, _LAYERS):
            leave = partial(pass_.leave, name)
            hooks.append(module.register_forward_pre_hook(pass_.enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        with torch.no_grad(), Borrowed(layers, pass_.enter, pass_.leave), pass_:
            outputs = call(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor) and leaf in pass_.numbers:
            for number in pass_.numbers[leaf].unique().long().tolist():
                pass_.join(number, STAYS)
    return pass_.result()


class _Pass(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Numbers are float tensors, since every operation that moves values accepts floats.
        self.numbers: Any = WeakTensorKeyDictionary()
        self.sides: dict[tuple[str, str], Tensor] = {}
        self.rows: list[Tensor] = []
        self.taints: dict[int, str] = {}
        self.parents = [0, STAYS]
        self.inside = 0
        self.loose = loose_parameters(model, _LAYERS)

    # Classes are a disjoint-set forest; its roots are the classes.

    def find(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        if one and other:
            a, b = sorted((self.find(one), self.find(other)))
            self.parents[b] = a

    def new(self, count: int) -> Tensor:
        """New numbers for a layer's output channels. A single channel cannot be removed and gets none."""
        if count == 1:
            return torch.zeros(1)
        start = len(self.parents)
        self.parents += range(start, start + count)
        return torch.arange(start, start + count, dtype=torch.float32)

    def taint(self, tensor: Tensor, why: str) -> None:
        if tensor in self.numbers:
            numbers = self.numbers[tensor].unique().long().tolist()
            self.taints |= {number: why for number in numbers if number and number not in self.taints}

    def result(self) -> Wiring:
        lookup = torch.tensor([self.find(number) for number in range(len(self.parents))])
        tainted: dict[int, str] = {}
        for number, why in self.taints.items():
            tainted.setdefault(int(lookup[number]), why)
        return Wiring(
            {side: lookup[numbers.long()] for side, numbers in self.sides.items()},
            [lookup[rows.long()] for rows in self.rows],
            tainted,
            frozenset({int(lookup[STAYS])}),
            dict(self.loose.values()),
        )

    # Layers

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.inside += 1

    def leave(self, name: str, module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
        self.inside -= 1
        if self.inside:
            return
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        x, out = inputs[0], outputs[0] if isinstance(outputs, tuple) else outputs
        dim = self._channel_dim(module, x)
        numbers = self.numbers.get(x)
        if numbers is not None and constant(numbers, dim) and compact(numbers).numel() != 1:
            # The layer is applied to all channels alike, along another dimension, so its width is not followed.
            if isinstance(module, _CONV) or (isinstance(module, _BATCH_NORM) and dim == 1):
                self.taint(x, f"'{name}', which is applied across channels")
            else:
                self.numbers[out] = numbers.narrow(dim, 0, 1).expand(out.shape)
            return
        own = [self._along(t, dim if t is x else t.ndim - 1) for t in inputs]
        seen = own[0]
        if isinstance(module, nn.Linear | _CONV) and not _depthwise(module):
            groups = getattr(module, "groups", 1)
            self._record(name, "in", seen)
            if (name, "out") not in self.sides:
                width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
                self.sides[name, "out"] = self.new(width)
            made = self.sides[name, "out"]
            if groups > 1:
                self.rows += [seen.view(groups, -1), made.view(groups, -1)]
        else:
            for other in own[1:]:
                if isinstance(module, nn.MultiheadAttention) and other.shape == seen.shape:
                    self._unite(seen, other)
            if not (isinstance(module, nn.PReLU) and module.num_parameters == 1):
                self._record(name, "both", seen)
            parts = getattr(module, "num_groups", getattr(module, "num_heads", 1))
            if isinstance(parts, int) and parts > 1:
                self.rows.append(seen.view(parts, -1))
            made = seen
        self.numbers[out] = along(made, 1 if dim == 1 and out.ndim == x.ndim else out.ndim - 1, out.shape)

    def _channel_dim(self, module: nn.Module, x: Tensor) -> int:
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            return x.ndim - 1
        if isinstance(module, nn.LayerNorm):
            size = module.normalized_shape[-1]
            return 1 if x.ndim == 4 and x.shape[1] == size and x.shape[-1] != size else x.ndim - 1
        return 1

    def _along(self, x: Tensor, dim: int) -> Tensor:
        """The numbers along one dimension. All numbers at one position become one class."""
        numbers = self.numbers.get(x)
        if numbers is None:
            return torch.zeros(x.shape[dim])
        rows = compact(numbers, keep=dim).movedim(dim, 0).flatten(1)
        for column in range(1, rows.shape[1]):
            self._unite(rows[:, 0], rows[:, column])
        return rows.amax(1).expand(x.shape[dim])

    def _record(self, name: str, side: str, numbers: Tensor) -> None:
        before = self.sides.get((name, side))
        if before is None:
            self.sides[name, side] = numbers
        else:  # a layer that runs twice
            self._unite(before, numbers)
            self.sides[name, side] = torch.where(before > 0, before, numbers)

    def _unite(self, one: Tensor, other: Tensor) -> None:
        pairs = torch.stack([one.flatten(), other.flatten()], 1)
        pairs = pairs[(pairs > 0).all(1) & (pairs[:, 0] != pairs[:, 1])].unique(dim=0)
        for a, b in pairs.long().tolist():
            self.join(a, b)

    # Operations between layers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        if self.inside:
            return outputs
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            if id(tensor) in self.loose and tensor not in self.numbers:
                self._parameter(tensor)
        if not any(tensor in self.numbers for tensor in tensors):
            return outputs
        name = func._schema.name.rpartition("::")[2]
        try:
            found = self._follow(name, func, args, kwargs, tensors, outputs)
        except Exception:  # noqa: BLE001 - the operation does not work on numbers
            found = None
        if found is None:
            why = f"{name}{line_now()}"
            for tensor in tensors:
                self.taint(tensor, why)
            return outputs
        for leaf, numbers in zip(tree_leaves(outputs), found, strict=False):
            if isinstance(leaf, Tensor) and numbers is not None and numbers.shape == leaf.shape:
                self.numbers[leaf] = compact(numbers).expand(leaf.shape)
        return outputs

    def _parameter(self, parameter: Tensor) -> None:
        name, dim = self.loose[id(parameter)]
        self.sides[name, "both"] = self.new(parameter.shape[dim])
        self.numbers[parameter] = along(self.sides[name, "both"], dim, parameter.shape)

    def _follow(
        self, name: str, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor], outputs: Any
    ) -> list[Tensor | None] | None:
        """The numbers of the outputs; None if unknown."""
        out = next((leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)), None)
        if name.endswith("_") and any(t._is_view() for t in tensors[:1]):
            return None
        if out is None or not out.is_floating_point():
            return []
        if name.startswith("new_") or name.endswith("s_like"):
            return []  # new values, not from channels
        first = self.numbers.get(tensors[0])
        if name in _MOVES:
            return self._moved(name, func, args, kwargs, outputs)
        if name == "constant_pad_nd":
            assert first is not None
            return [padded(first, out.shape, args[1])]
        if name in ("bmm", "mm", "matmul"):
            return [self._product(tensors[0], tensors[1])]
        if name.startswith("_scaled_dot_product"):
            q, k, v = (self._numbers(t) for t in tensors[:3])
            if not constant(v, -2):
                return None
            self._unite(compact(q, keep=-1), compact(k, keep=-1))
            return [v[..., :1, :].expand(out.shape)]
        if name in _SAME and first is not None and out.shape == first.shape:
            rest = [self.numbers[t] for t in tensors[1:] if t in self.numbers]
            for numbers in rest:  # weights and shifts
                dim = 1 if "layer_norm" not in name and "rms" not in name else first.ndim - 1
                self._unite(compact(first, keep=dim).flatten(), numbers.flatten())
            return [first]
        extreme = name in ("max", "min") and len(args) > 1 and isinstance(args[1], int)
        if first is not None and (name in _REDUCE or extreme):
            return [self._reduced(first, args, kwargs), None]
        if torch.Tag.pointwise in func.tags or name in ("add_", "mul_", "relu_", "copy_"):
            return [self._pointwise(tensors, out)]
        pool = name.startswith(("avg_pool", "max_pool", "_adaptive_avg_pool", "adaptive_", "upsample_"))
        if (
            pool or name in ("grid_sampler_2d", "reflection_pad2d", "replication_pad2d")
        ) and first is not None:
            spatial = range(2, first.ndim)
            if all(constant(first, d) for d in spatial):
                corner = first[(slice(None), slice(None), *(slice(0, 1) for _ in spatial))]
                return [corner.expand(out.shape)] * len(tree_leaves(outputs))
        return None

    def _numbers(self, tensor: Tensor) -> Tensor:
        numbers = self.numbers.get(tensor)
        return torch.zeros(()).expand(tensor.shape) if numbers is None else numbers

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any, outputs: Any) -> list[Tensor | None]:
        if name in ("view", "_unsafe_view", "reshape"):
            numbers = self._numbers(args[0]).reshape(outputs.shape)
            self._arranged(numbers)
            return [numbers]
        joined = name in ("cat", "stack")  # inputs without numbers cannot become narrower

        def number(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                return self.numbers.get(leaf, torch.tensor(float(STAYS * joined)).expand(leaf.shape))
            return leaf.cpu() if isinstance(leaf, Tensor) else leaf

        if name == "_to_copy":
            return [self._numbers(args[0])]
        moved = func(*tree_map(number, args), **kwargs)
        found = [leaf for leaf in tree_leaves(moved) if isinstance(leaf, Tensor)]
        if joined and not any(
            t in self.numbers and not constant(self.numbers[t], _dim(args, kwargs)) for t in args[0]
        ):
            found = [torch.where(leaf == STAYS, 0.0, leaf) for leaf in found]  # not joined along the channels
        if name in ("split", "split_with_sizes", "chunk", "unbind") and len({p.shape for p in found}) == 1:
            rows = torch.stack([compact(piece).flatten() for piece in found]) if alike(found) else None
            if rows is not None and rows.shape[1] > 1:
                self.rows.append(rows)
        return list(found)

    def _arranged(self, numbers: Tensor) -> None:
        """A view that splits channels into two dimensions stays valid only if each row loses the same number."""
        small = compact(numbers)
        sizes = [size for size in small.shape if size > 1]
        for at in range(
            len(sizes) - 1
        ):  # 3 x heads x size: the same number from each of the 3, and from each head
            self.rows += list(small.reshape(-1, sizes[at], math.prod(sizes[at + 1 :])))

    def _pointwise(self, tensors: Sequence[Tensor], out: Tensor) -> Tensor | None:
        known = [self._numbers(t) for t in tensors if t.is_floating_point() and t.ndim <= out.ndim]
        known = [n.reshape([1] * (out.ndim - n.ndim) + list(n.shape)) for n in known]
        if any(compact(n).numel() > 1 for n in known):
            for n in known:  # one value for all channels, such as a learned gate, is not removed
                if compact(n).numel() == 1:
                    self.join(int(compact(n).flatten()[0]), STAYS)
            known = [n if compact(n).numel() > 1 else torch.zeros(()).expand(n.shape) for n in known]
        varying = [[d for d in range(out.ndim) if not constant(n, d)] for n in known]
        for n, own in zip(known, varying, strict=True):
            spread = [d for other in varying for d in other if n.shape[d] == 1]
            if own and spread:
                return None  # an outer product: each value belongs to two channels
        shapes = [compact(n) for n in known if bool((n > 0).any())]
        joint = shapes[0]
        for other in shapes[1:]:
            one, two = torch.broadcast_tensors(joint, other)
            self._unite(one, two)
            joint = torch.where(one > 0, one, two)
        return joint.expand(out.shape)

    def _reduced(self, numbers: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        dims = args[1] if len(args) > 1 and isinstance(args[1], list | tuple | int) else range(numbers.ndim)
        dims = sorted(d % numbers.ndim for d in ([dims] if isinstance(dims, int) else dims))
        keep = bool(args[-1]) if len(args) > 2 else bool(kwargs.get("keepdim", False))
        carrying = [d for d in range(numbers.ndim) if not constant(numbers, d)]
        for d in dims:
            if d in carrying and set(carrying) - set(
                dims
            ):  # a sum over stacked branches: their channels are added
                first = numbers.narrow(d, 0, 1)
                for at in range(1, numbers.shape[d]):
                    self._unite(compact(first), compact(numbers.narrow(d, at, 1)))
                numbers = first.expand(numbers.shape)
        across = not all(constant(numbers, d) for d in dims)
        for d in dims:
            numbers = numbers.narrow(d, 0, 1)
        numbers = torch.zeros_like(numbers) if across else numbers
        return numbers if keep else numbers.squeeze(dims)

    def _product(self, one: Tensor, other: Tensor) -> Tensor | None:
        a, b = self._numbers(one), self._numbers(other)
        rows, columns = not constant(a, -2), not constant(b, -1)
        inner, outer = not constant(a, -1), not constant(b, -2)
        if (rows and inner) or (columns and outer) or (rows and columns):
            return None
        if inner and outer:
            self._unite(a[..., :1, :].transpose(-1, -2), b[..., :1])
        elif inner or outer:
            return None  # channels are mixed with values that are not channels
        shape = (*a.shape[:-1], b.shape[-1])
        if rows:
            return a[..., :1].expand(shape)
        return (b[..., :1, :] if columns else torch.zeros(())).expand(shape)


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _CONV) and layer.groups == layer.out_channels == layer.in_channels > 1


def _dim(args: Any, kwargs: Any) -> int:
    return args[1] if len(args) > 1 else kwargs.get("dim", 0)
