"""Tests that a pruned net computes the same as the given net with the removed channels set to zero.

Matching shapes prove nothing: a layer that lost the wrong columns runs too. The comparison is exact except for
rounding. Norms across channels are computed over the remaining channels. Other operations across channels (a mean, a
softmax) give a difference, so they are rejected.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from compressit import CompressitError, InputTensors, each_tensor
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.surgery import outputs, removals, remove, sharing_copy

TOLERANCE = 1e-5  # of the largest output; rounding is far below this, a misplaced channel far above
NORMS = (nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Gap:
    """The difference between two nets."""

    largest: float  # largest difference of two outputs, as a fraction of the largest output
    reason: str = ""  # why the pruned net does not run, if so
    weights: Literal["random", "given"] = "random"  # the weights that were compared
    rescaled: bool = False  # whether attention divides by the root of a head's remaining size

    @property
    def wrong(self) -> bool:
        return bool(self.reason) or not self.largest <= TOLERANCE


def compare(
    model: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Tensor],
    inputs: Sequence[InputTensors],
    weights: Literal["random", "given"] = "random",
    dtype: torch.dtype = torch.float32,
) -> Gap:
    """The difference between `model` without the channels that are True in `gone` and `model` with these set to zero.

    inputs: batches for a forward pass. Both nets run in eval mode with the same random weights, since a layer that
    starts as zeros would hide the layers behind it. If random weights give NaN or infinity, the given weights are used.
    If the nets differ, they are compared again in float64. Does not change `model`.
    """
    inputs = [
        each_tensor(x, lambda t: t.to(dtype) if t.is_floating_point() else t) for x in inputs
    ]  # in half
    # precision, rounding would hide faults
    tensors = _Tensors(model, weights, {})
    small = sharing_copy(model).eval()
    try:
        _replace(small, lambda name, module, key: _numbered(getattr(module, key)))
        remove(small, groups, gone)
        _replace(small, tensors.left)
        found = _computed(small.to(dtype), inputs)
    except CompressitError as error:
        return Gap(math.inf, error.message)
    except Exception as error:  # noqa: BLE001 - Torch-Pruning's function for a layer
        return Gap(math.inf, f"{type(error).__name__}: {error}")
    norms = {name: copy.deepcopy(m) for name, m in small.named_modules() if isinstance(m, NORMS)}
    scales = {n: m.scale for n, m in small.named_modules() if isinstance(getattr(m, "scale", None), float)}
    heads = {n: m.head_dim for n, m in small.named_modules() if isinstance(m, nn.MultiheadAttention)}
    del small  # values are made again below, so that memory holds at most two such nets
    masked = sharing_copy(model).eval()
    _replace(masked, tensors.or_zero)
    masked.to(dtype)
    for (name, _, _), channels in removals(groups, gone).items():
        if name in norms:
            masked.set_submodule(name, _MaskedNorm(masked.get_submodule(name), norms[name], channels))
    attention = _ScaledByWhatIsLeft()
    for name, scale in scales.items():
        module: Any = masked.get_submodule(name)
        attention.fewer |= module.scale != scale
        module.scale = scale
    for name, size in heads.items():
        module = masked.get_submodule(name)
        attention.fewer |= module.head_dim != size
        _rescale(module, size)
    try:
        with attention:
            wanted = _computed(masked, inputs)
    except CompressitError as error:  # the net reads an attribute that the masked norm lacks
        return Gap(math.inf, error.message)
    del masked
    if weights == "random" and not all(bool(out.isfinite().all()) for out in wanted):
        return compare(model, groups, gone, inputs, "given", dtype)
    gap = Gap(_distance(wanted, found), "", weights, bool(attention.fewer))
    if dtype == torch.float32 and gap.wrong:  # in hundreds of layers, rounding can grow to any size
        exact = compare(model, groups, gone, inputs, weights, torch.float64)
        return gap if exact.reason else exact  # not every net runs in float64
    return gap


@dataclass(frozen=True)
class _Tensors:
    """The tensors of the two nets, by names of the module and of the tensor in it."""

    model: nn.Module
    weights: Literal["random", "given"]
    # Remaining positions (int64) in each dimension, for tensors that were pruned.
    kept: dict[tuple[str, str], list[Tensor]]

    def whole(self, name: str, key: str) -> Tensor:
        owner = self.model.get_submodule(name)
        given = getattr(owner, key).detach()
        return given.clone() if self.weights == "given" else _random(given, f"{name}.{key}", owner)

    def left(self, name: str, module: nn.Module, key: str) -> Tensor:
        """The tensor for the pruned net, which still holds position numbers."""
        found, numbers = self.whole(name, key), getattr(module, key).detach()
        if numbers.shape != found.shape:
            self.kept[name, key] = _places(numbers, found.shape)
            for dim, places in enumerate(self.kept[name, key]):
                found = found.index_select(dim, places)
        return found

    def or_zero(self, name: str, module: nn.Module, key: str) -> Tensor:
        """The tensor for the net with zeros."""
        found = self.whole(name, key)
        for dim, places in enumerate(self.kept.get((name, key), ())):
            lost = torch.ones(found.shape[dim], dtype=torch.bool, device=found.device)
            lost[places] = False
            found.index_fill_(dim, lost.nonzero()[:, 0], float(key == "running_var"))
        return found


def _replace(net: nn.Module, value: Callable[[str, nn.Module, str], Tensor]) -> None:
    """Replaces each float parameter and batch norm statistic by value(module name, module, tensor name). Tied
    parameters stay tied."""
    done: dict[int, Tensor] = {}
    for name, module in net.named_modules():
        own = dict[str, Tensor](module.named_parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:  # pyright: ignore[reportPrivateUsage]
            own |= {key: getattr(module, key) for key in ("running_mean", "running_var")}
        for key, old in own.items():
            if old.is_floating_point() and id(old) not in done:
                new = value(name, module, key)
                done[id(old)] = nn.Parameter(new, False) if isinstance(old, nn.Parameter) else new
            if id(old) in done:
                setattr(module, key, done[id(old)])


def _numbered(tensor: Tensor) -> Tensor:
    """Position numbers (int32) as the bits of float32, since Torch-Pruning's functions move floats. The remaining
    numbers show what they removed, whatever they do with a layer."""
    numbers = torch.arange(tensor.numel(), dtype=torch.int32, device=tensor.device)
    return numbers.view(tensor.shape).view(torch.float32)


def _places(numbered: Tensor, shape: torch.Size) -> list[Tensor]:
    """The remaining positions (int64) in each dimension of `shape`."""
    numbers = numbered.view(torch.int32)
    lines = [numbers.movedim(dim, -1)[(0,) * (numbers.ndim - 1)].long() for dim in range(numbers.ndim)]
    return [line // math.prod(shape[dim + 1 :]) % shape[dim] for dim, line in enumerate(lines)]


def _random(old: Tensor, name: str, module: nn.Module) -> Tensor:
    """Random values; for two or more dimensions as in He et al. (2015), so that signals neither vanish nor explode."""
    name = name.replace(".running_", ".")
    if old.ndim < 2:
        return _uniform(old, name, *((-0.2, 0.2) if name.endswith(("bias", ".mean")) else (0.5, 1.5)))
    layer = isinstance(module, nn.modules.conv._ConvNd | nn.Linear)  # pyright: ignore[reportPrivateUsage]
    if not layer and "weight" not in name:  # a token, positions, a temperature: stay near the given value
        return old + _uniform(old, name, 0.25, 0.75)
    bound = math.sqrt(6 / max(old[0].numel(), 1))
    return _uniform(old, name, -bound, bound)


def _uniform(like: Tensor, name: str, low: float, high: float) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty_like(like).uniform_(low, high, generator=generator)


class _MaskedNorm(nn.Module):
    """A norm across channels that uses only the remaining channels and returns zeros for the others."""

    def __init__(self, given: Any, small: nn.Module, lost: Sequence[int]) -> None:
        super().__init__()
        self.given, self.small = given, small
        self.size = given.num_channels if isinstance(given, nn.GroupNorm) else given.normalized_shape[-1]
        self.kept = torch.tensor([channel for channel in range(self.size) if channel not in set(lost)])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["given"], name)  # TransformerEncoderLayer reads `eps`

    def forward(self, x: Tensor) -> Tensor:
        dim = 1 if isinstance(self.given, nn.GroupNorm) or x.shape[-1] != self.size else x.ndim - 1
        if isinstance(self.given, nn.GroupNorm):
            length = self.size // self.given.num_groups
            if len(set((self.kept // length).bincount(minlength=self.given.num_groups).tolist())) > 1:
                raise ValueError("the groups of a group norm lose different numbers of channels")
        kept = self.kept.to(x.device)
        return torch.zeros_like(x).index_copy(dim, kept, self.small(x.index_select(dim, kept)))


def _rescale(attention: Any, size: int) -> None:
    """Scales queries as if heads had `size` channels: torch divides by the root of a head's size, including zeros."""
    factor = math.sqrt(attention.head_dim / size)
    if attention.in_proj_weight is not None:
        attention.in_proj_weight.data[: attention.embed_dim] *= factor
    elif attention.q_proj_weight is not None:
        attention.q_proj_weight.data *= factor
    if attention.in_proj_bias is not None:
        attention.in_proj_bias.data[: attention.embed_dim] *= factor


class _ScaledByWhatIsLeft(TorchFunctionMode):
    """Makes `scaled_dot_product_attention` without a scale divide by the root of the number of nonzero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fewer = False  # whether a head had zeros

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and kwargs.get("scale") is None:
            query = args[0] if args else kwargs["query"]
            left = int((query != 0).flatten(0, -2).any(0).sum())
            kwargs["scale"] = max(left, 1) ** -0.5
            self.fewer |= left < query.shape[-1]
        return func(*args, **kwargs)


def _computed(net: nn.Module, inputs: Sequence[InputTensors]) -> list[Tensor]:
    with _exactly():
        return [out for x in inputs for out in outputs(net, x)]


@contextmanager
def _exactly() -> Generator[None]:
    """Turns off TF32, which rounds float32 products on a GPU to ten bits, and torch's fused encoder layers, which would
    bypass the masked norms."""
    cudnn: Any = torch.backends.cudnn
    matmul, mha = torch.backends.cuda.matmul, torch.backends.mha
    before = cudnn.allow_tf32, matmul.allow_tf32, mha.get_fastpath_enabled()
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = False
        mha.set_fastpath_enabled(False)
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before[:2]
        mha.set_fastpath_enabled(before[2])


def _distance(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    if [a.shape for a in wanted] != [b.shape for b in found]:
        return math.inf
    gaps = [0.0]
    for a, b in zip(wanted, found, strict=True):
        same = a.isinf() & (a == b)  # masked classes
        a, b = a.masked_fill(same, 0), b.masked_fill(same, 0)
        size = float(a.abs().max()) if a.numel() else 0.0
        gap = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
        gaps.append(gap / size if size else (math.inf if gap else 0.0))
    return math.nan if any(map(math.isnan, gaps)) else max(gaps)
