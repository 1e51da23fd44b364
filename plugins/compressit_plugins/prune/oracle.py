"""Whether a pruned net computes what it should: what the given net does once everything that was removed is zero.

Shapes that fit prove nothing: a layer that lost the wrong columns runs as well. The comparison is exact but for
rounding, so it needs no tolerance for luck. Norms across channels are computed over those that are left; what looks
across channels in other ways (a mean over them, a softmax) shows as a difference, and is refused like one.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressit import CompressitError
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.surgery import entered, removals, remove, sharing_copy

TOLERANCE = 1e-5  # of the largest output: rounding stays far below, a channel in the wrong place far above
NORMS = (nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Gap:
    """How far two nets are apart."""

    largest: float  # difference of two outputs, as a fraction of the largest output
    reason: str = ""  # why the pruned net does not run, where it does not
    weights: Literal["random", "given"] = "random"  # those that were compared
    rescaled: bool = False  # whether attention divides by the root of what is left of a head

    @property
    def wrong(self) -> bool:
        return bool(self.reason) or not self.largest <= TOLERANCE


def compare(
    model: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Literal["random", "given"] = "random",
    dtype: torch.dtype = torch.float32,
) -> Gap:
    """How far `model` without the channels that are True in `gone` is from `model` with zeros in their place.

    inputs: batches for a forward pass. Both nets have storage of their own, run in eval mode, and have random weights
    (the same): a layer that starts as zeros would hide what is behind it. Where those lead to no number, they have
    the given ones. Where the two differ they are compared again in float64. `model` stays as it is.
    """
    inputs = [x.to(dtype) for x in inputs]  # rounding in half precision would hide everything
    pruned = _lively(model, weights, dtype)
    try:
        remove(pruned, groups, gone)
        small = _outputs(pruned, inputs)
    except CompressitError as error:
        return Gap(math.inf, error.message)
    except Exception as error:  # noqa: BLE001 - Torch-Pruning's function for a layer
        return Gap(math.inf, f"{type(error).__name__}: {error}")
    norms = {name: m for name, m in pruned.named_modules() if isinstance(m, NORMS)}
    scales = {
        name: m.scale for name, m in pruned.named_modules() if isinstance(getattr(m, "scale", None), float)
    }
    heads = {n: m.head_dim for n, m in pruned.named_modules() if isinstance(m, nn.MultiheadAttention)}
    norms = {name: deepcopy(module) for name, module in norms.items()}
    shapes = {name: tensor.shape for name, tensor in (*pruned.named_parameters(), *pruned.named_buffers())}
    del pruned  # the same weights are made twice, so that there is never room for more than two of such nets
    masked = _mask(_lively(model, weights, dtype), groups, gone, norms, shapes)
    rescaled = False
    for name, scale in scales.items():
        rescaled |= masked.get_submodule(name).scale != scale
        masked.get_submodule(name).scale = scale
    for name, size in heads.items():
        rescaled |= masked.get_submodule(name).head_dim != size
        _rescale(masked.get_submodule(name), size)
    attention = _ScaledByWhatIsLeft()
    try:
        wanted = _outputs(masked, inputs, attention)
    except CompressitError as error:  # it reads of a norm what the one that stands in for it has not
        return Gap(math.inf, error.message)
    rescaled |= attention.fewer
    if weights == "random" and not all(bool(out.isfinite().all()) for out in wanted):
        del masked
        return compare(model, groups, gone, inputs, "given", dtype)
    gap = Gap(_distance(wanted, small), weights=weights, rescaled=bool(rescaled))
    if (
        dtype == torch.float32 and gap.wrong
    ):  # a hundred layers can make a difference of any size out of rounding
        del masked
        exact = compare(model, groups, gone, inputs, weights, torch.float64)
        return gap if exact.reason else exact  # not every net runs in float64
    return gap


def _lively(model: nn.Module, weights: Literal["random", "given"], dtype: torch.dtype) -> nn.Module:
    """A copy in eval mode with weights of its own: its own parameters and statistics, the model's other buffers.

    He et al. (2015) for what has two dimensions and more, so that signals neither vanish nor explode.
    """
    lively = sharing_copy(model).eval()
    done: dict[int, nn.Parameter] = {}  # tied ones stay tied
    for at, module in lively.named_modules():
        layer = isinstance(module, nn.modules.conv._ConvNd | nn.Linear)  # pyright: ignore[reportPrivateUsage]
        for name, old in list(module.named_parameters(recurse=False)):
            if id(old) not in done:
                given = weights == "given" or not old.is_floating_point()
                values = old.detach().clone() if given else _values(old, f"{at}.{name}", layer)
                done[id(old)] = nn.Parameter(values, requires_grad=False)
            setattr(module, name, done[id(old)])
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:  # pyright: ignore[reportPrivateUsage]
            assert module.running_mean is not None
            mean, var = module.running_mean.clone(), module.running_var.clone()
            if weights == "random":
                mean, var = _uniform(mean, f"{at}.mean", -0.2, 0.2), _uniform(var, f"{at}.var", 0.5, 1.5)
            module.running_mean, module.running_var = mean, var
    return lively.double() if dtype == torch.float64 else lively.float()


def _values(old: Tensor, name: str, layer: bool) -> Tensor:
    if old.ndim < 2:
        return _uniform(old, name, *((-0.2, 0.2) if name.endswith("bias") else (0.5, 1.5)))
    if not layer and "weight" not in name:  # a token, positions, a temperature: near what it is
        return old.detach() + _uniform(old, name, 0.25, 0.75)
    bound = math.sqrt(6 / max(old[0].numel(), 1))
    return _uniform(old, name, -bound, bound)


def _uniform(like: Tensor, name: str, low: float, high: float) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty_like(like.detach()).uniform_(low, high, generator=generator)


@torch.no_grad()
def _mask(
    net: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Tensor],
    norms: Mapping[str, nn.Module],
    shapes: Mapping[str, torch.Size],
) -> nn.Module:
    """`net`, changed: zeros wherever something was removed; norms across channels see only those left.

    norms, shapes: those norms, and all tensors' shapes, of the pruned net.
    """
    sides: dict[str, list[tuple[Any, int, list[int]]]] = defaultdict(list)
    for (name, prune, dim), channels in removals(groups, gone).items():
        sides[name].append((prune, dim, channels))
    for name, removed in sides.items():
        parent, _, last = name.rpartition(".")
        owner = net.get_submodule(parent)
        layer = getattr(owner, last)
        if isinstance(layer, nn.Parameter):
            for _, dim, channels in removed:
                layer.index_fill_(dim, torch.tensor(channels, device=layer.device), 0)
        elif name in norms:
            setattr(owner, last, _MaskedNorm(layer, norms[name], removed[0][2]))
        else:
            _mask_layer(name, layer, removed, shapes)
    return net


def _mask_layer(
    at: str, layer: nn.Module, removed: Sequence[tuple[Any, int, list[int]]], shapes: Mapping[str, torch.Size]
) -> None:
    for owner_name, owner in layer.named_modules(prefix=at):
        for name, tensor in _tensors(owner):
            for dim, left in enumerate(shapes[f"{owner_name}.{name}".lstrip(".")]):
                if left == tensor.shape[dim]:
                    continue
                lost = torch.zeros(tensor.shape[dim], dtype=torch.bool, device=tensor.device)
                for one in removed:
                    lost |= _lost(layer, owner_name.removeprefix(at).lstrip("."), name, dim, *one)
                tensor.index_fill_(dim, lost.nonzero()[:, 0], 1.0 if name == "running_var" else 0.0)


def _lost(
    layer: nn.Module, at: str, name: str, dim: int, prune: Any, side: int, channels: Sequence[int]
) -> Tensor:
    """Which entries along `dim` of a layer's tensor go (bool): a layer of their numbers is pruned like it."""
    numbered = sharing_copy(layer)
    for owner in numbered.modules():
        for key, tensor in _tensors(owner):
            along = min(dim, tensor.ndim - 1)
            view = [-1 if d == along else 1 for d in range(tensor.ndim)]
            numbers = torch.arange(tensor.shape[along], dtype=torch.float32, device=tensor.device)
            numbers = numbers.view(view).expand(tensor.shape)
            parameter = isinstance(tensor, nn.Parameter)
            setattr(owner, key, nn.Parameter(numbers, requires_grad=False) if parameter else numbers)
    prune.__self__.pruning_dim = side
    with _WithoutRoom():
        prune(numbered, list(channels))
    left = getattr(numbered.get_submodule(at), name).detach().movedim(dim, -1)
    lost = torch.ones(getattr(layer.get_submodule(at), name).shape[dim], dtype=torch.bool, device=left.device)
    lost[left[(0,) * (left.ndim - 1)].long()] = False
    return lost


class _WithoutRoom(TorchFunctionMode):
    """`index_select` of what is the same along a dimension gives the like: it would make room for all of it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.index_select or kwargs:
            return func(*args, **(kwargs or {}))
        tensor, along, index = args
        along %= tensor.ndim
        for dim, stride in enumerate(tensor.stride()):
            tensor = tensor.narrow(dim, 0, 1) if stride == 0 else tensor
        if tensor.shape[along] > 1:
            tensor = tensor.index_select(along, index)
        shape = [len(index) if dim == along else size for dim, size in enumerate(args[0].shape)]
        return tensor.expand(shape)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Its own parameters and buffers of floats that have a dimension."""
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(name, tensor) for name, tensor in own if tensor.ndim and tensor.is_floating_point()]


class _MaskedNorm(nn.Module):
    """A norm across channels that sees only those that are left, and gives zeros for the others."""

    def __init__(self, given: nn.Module, small: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.given, self.small, self.lost = given, small, list(channels)
        size: Any = given.num_channels if isinstance(given, nn.GroupNorm) else given.normalized_shape
        self.size = int(size[-1] if isinstance(size, tuple) else size)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["given"], name)  # TransformerEncoderLayer looks at `eps`

    def forward(self, x: Tensor) -> Tensor:
        dim = 1 if isinstance(self.given, nn.GroupNorm) or x.shape[-1] != self.size else x.ndim - 1
        kept = torch.ones(self.size, dtype=torch.bool)
        kept[self.lost] = False
        if isinstance(self.given, nn.GroupNorm):
            left = kept.view(self.given.num_groups, -1).sum(1)
            if left.min() != left.max():
                raise ValueError("the groups of a group norm lose different numbers of channels")
        index = kept.nonzero()[:, 0].to(x.device)
        return torch.zeros_like(x).index_copy(dim, index, self.small(x.index_select(dim, index)))


def _rescale(attention: Any, size: int) -> None:
    """Queries as if heads had `size` channels: torch divides by the root of a head's size, zeros included."""
    factor = math.sqrt(attention.head_dim / size)
    if attention.in_proj_weight is not None:
        attention.in_proj_weight.data[: attention.embed_dim] *= factor
    elif attention.q_proj_weight is not None:
        attention.q_proj_weight.data *= factor
    if attention.in_proj_bias is not None:
        attention.in_proj_bias.data[: attention.embed_dim] *= factor


class _ScaledByWhatIsLeft(TorchFunctionMode):
    """`scaled_dot_product_attention` without a scale divides by the root of a head's size: here of what is not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fewer = False  # whether there was a head with zeros

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and kwargs.get("scale") is None:
            query = args[0] if args else kwargs["query"]
            left = int((query != 0).flatten(0, -2).any(0).sum())
            kwargs["scale"] = max(left, 1) ** -0.5
            self.fewer |= left < query.shape[-1]
        return func(*args, **kwargs)


def _outputs(
    net: nn.Module, inputs: Sequence[Tensor], attention: TorchFunctionMode | None = None
) -> list[Tensor]:
    found: list[Tensor] = []
    exact = _without_tf32() if inputs[0].is_cuda else nullcontext()
    with entered(net) as stack, torch.no_grad(), exact, _layer_by_layer(), attention or nullcontext():
        for x in inputs:
            try:
                outputs = net(x)
            except Exception as error:
                where = f"in {stack[-1]}" if stack else f"in {type(net).__name__} itself"
                raise CompressitError(
                    f"a forward pass fails {where}: {type(error).__name__}: {error}"
                ) from error
            found += [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return found


@contextmanager
def _layer_by_layer() -> Generator[None]:
    """Torch's encoder layers take one fused step otherwise, past the norms that stand in for theirs."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_tf32() -> Generator[None]:
    """Products of float32 on a GPU are rounded to ten bits otherwise."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _distance(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    if [a.shape for a in wanted] != [b.shape for b in found]:
        return math.inf
    gaps = [0.0]
    for a, b in zip(wanted, found, strict=True):
        same = a.isinf() & (a == b)  # classes that are masked out
        a, b = a.masked_fill(same, 0), b.masked_fill(same, 0)
        size = float(a.abs().max()) if a.numel() else 0.0
        gap = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
        gaps.append(gap / size if size else (math.inf if gap else 0.0))
    return math.nan if any(map(math.isnan, gaps)) else max(gaps)
