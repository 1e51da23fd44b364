"""The judge of structured pruning: what it gives must be the given net without the removed channels, or a refusal.

Nothing here knows how pruning is done, or asks it what it removed. Every tensor of a net is filled with values that
differ, so that the entries which are left are found by their value, dimension by dimension. A copy of the given net,
whose other entries are zero (running variances: one), must then compute what the pruned net computes: whatever a
removed channel fed reads zeros, and what it gave is zero itself.

That is exact wherever channels meet only in layers with weights. Where they meet otherwise, a removed channel is not
a channel of zeros: a norm over channels divides by their number. `nn.LayerNorm` and `nn.GroupNorm` of the copy are
therefore replaced by the same norm over the channels that are left (of each of the given groups), and its
`nn.MultiheadAttention` divides by the root of the channels that are left of a head. A net with other such functions
says itself what it computes without some channels (`Net.alive`); equal to either is right.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import compressit
from compressit.datasets.splits import Data
from compressit.errors import CompressitError

CLASSES = 5
NEAR = 1e-4
"""The largest difference of outputs that counts as rounding, relative to the largest output."""
Kept = Callable[[str, int], list[int]]
"""Which entries of a dimension of a tensor are left: `kept("conv.weight", 0)`."""
SCOPES = ("local", "global")


class Net(nn.Module):
    """A small net of the zoo: inputs (N, *shape), outputs with `CLASSES` columns."""

    shape: ClassVar[tuple[int, ...]] = (3, 8, 8)

    def alive(self, x: Tensor, kept: Kept) -> Any:
        """What the net computes from the channels that are left, for nets that the masks do not describe."""
        raise NotImplementedError


@dataclass(frozen=True)
class Verdict:
    """What came of pruning one net."""

    result: Literal["equal", "refused", "wrong", "unhelpful"]
    """`unhelpful`: refused, without the name of a layer or without help."""
    detail: str


def judged(net: nn.Module, shape: Sequence[int], **options: Any) -> Verdict:
    """Prunes a copy of `net` to half its channels through `compressit.stage` and judges the result."""
    options = {"keep": 0.5, "target": "channels", "recalibrate": 0, "time_limit": 3} | options
    whole = nn.Sequential(OrderedDict(net=net))  # names with a dot: no word of a message is one by accident
    try:
        small = compressit.stage("prune.structured", **options)(whole, data(tuple(shape)))
    except CompressitError as error:
        fault = unhelpful(whole, error)
        text = " ".join(str(error).split())
        return Verdict("unhelpful", f"{fault}: {text}") if fault else Verdict("refused", text)
    return compared(net, small.get_submodule("net"), shape)


def compared(net: nn.Module, small: nn.Module, shape: Sequence[int]) -> Verdict:
    """Whether `small` is `net` without some channels."""
    try:
        left = {name: entries(value, small.state_dict()[name]) for name, value in tensors(net).items()}
    except (KeyError, ValueError) as error:
        return Verdict("wrong", f"its tensors are none of the given net's: {error}")
    if not any(value.shape != small.state_dict()[name].shape for name, value in tensors(net).items()):
        return Verdict("wrong", "nothing was removed, and no word about it")
    worst, moved, masked = 0.0, 0.0, without(net, left)
    for mode in (False, True):  # the branches of training as well: there the net has only to run
        for x in inputs(shape):
            if mode and len(x) < 2:
                continue
            try:
                wanted, given = reference(masked, left, x, mode), outputs(small, x, mode)
            except Exception as error:  # noqa: BLE001
                name = type(error).__name__
                return Verdict("wrong", f"it does not run{' in train mode' * mode}: {name}: {error}")
            if [w.shape for w in wanted[0]] != [g.shape for g in given]:
                return Verdict("wrong", f"outputs {[tuple(g.shape) for g in given]}")
            if not mode:
                worst = max(worst, min(gap(candidate, given) for candidate in wanted))
                moved = max(moved, gap(outputs(net, x), given))
    assert moved > NEAR, "what was removed did not matter: this net can tell nothing"
    return Verdict("equal" if worst < NEAR else "wrong", f"gap {worst:.3g}")


def unhelpful(net: nn.Module, error: CompressitError) -> str:
    """What a refusal lacks: the name of a layer (or parameter) of the net, or help. Empty: nothing."""
    names = [name for name, _ in (*net.named_modules(), *net.named_parameters()) if "." in name]
    if not any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", str(error)) for name in names):
        return "names no layer"
    return "" if error.hint else "gives no help"


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """`net` in eval mode with values that differ within each tensor, and statistics and scales that matter."""
    draws = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    with torch.no_grad():
        for name, value in net.state_dict(keep_vars=True).items():
            if value.is_floating_point() and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                value.copy_(_distinct(name, value, draws))
    return net.eval()


def _distinct(name: str, value: Tensor, draws: torch.Generator) -> Tensor:
    last = name.rpartition(".")[2]
    plain = value.squeeze().ndim < 2  # scales, shifts and statistics
    around = 1.0 if last in ("running_var", "weight", "scale", "gamma") else 0.0
    fan = value[0].numel() if value.ndim > 1 else 1

    def draw(count: int) -> Tensor:
        uniform = torch.rand(count, generator=draws)
        return uniform - 0.5 + around if plain else (2 * uniform - 1) * (4.5 / fan) ** 0.5

    flat = draw(value.numel())
    if len(flat) > 100_000:  # so many draws repeat some
        flat = ((2 * torch.randperm(len(flat), generator=draws) + 1) / len(flat) - 1) * (4.5 / fan) ** 0.5
    elif not plain and value.shape[0] > 1:  # channels of different importance
        flat *= (0.5 + torch.rand(len(value), generator=draws)).repeat_interleave(fan)
    while len(again := _repeated(flat)):
        flat[again] = draw(len(again))
    return flat.view_as(value)


def _repeated(flat: Tensor) -> Tensor:
    values, order = flat.sort()
    return order[1:][values[1:] == values[:-1]]


def tensors(net: nn.Module) -> dict[str, Tensor]:
    """What of a net's state has an entry for a channel."""
    return {name: value for name, value in net.state_dict().items() if value.ndim > 0}


def entries(full: Tensor, left: Tensor) -> list[Tensor]:
    """For each dimension of `full` the positions that are left in `left`, in its order.

    Raises ValueError where `left` is not `full` at a product of positions: a value that is not the given net's, or
    channels that were torn apart.
    """
    if full.shape == left.shape and torch.equal(full, left):
        return [torch.arange(size) for size in full.shape]
    if full.ndim != left.ndim or not full.is_floating_point():
        raise ValueError(f"{tuple(left.shape)} of {tuple(full.shape)}")
    values, order = full.flatten().sort()
    places = torch.searchsorted(values, left.flatten()).clamp(max=len(values) - 1)
    if not torch.equal(values[places], left.flatten()):
        raise ValueError(f"{tuple(left.shape)} of {tuple(full.shape)} has values of its own")
    found: list[Tensor] = []
    for dim, at in enumerate(torch.unravel_index(order[places].view_as(left), full.shape)):
        rows = at.movedim(dim, 0).flatten(1) if left.ndim > 1 else at[:, None]
        if not torch.equal(rows, rows[:, :1].expand_as(rows)):
            raise ValueError(f"{tuple(left.shape)} of {tuple(full.shape)} is torn apart")
        found.append(rows[:, 0])
    return found


def without(net: nn.Module, left: dict[str, list[Tensor]]) -> nn.Module:
    """The net with zeros for all that is not `left`."""
    masked = copy.deepcopy(net)
    with torch.no_grad():
        for name, value in tensors(masked).items():  # in place: what is shared stays shared
            whole = value.clone()
            value.fill_(1.0 if name.endswith("running_var") else 0.0)
            grid = torch.meshgrid(*left[name], indexing="ij")
            value[grid] = whole[grid]
        _norms_of_what_is_left(masked, left)
    return masked


def reference(
    masked: nn.Module, left: dict[str, list[Tensor]], x: Tensor, training: bool
) -> list[list[Tensor]]:
    """The outputs that are right: of the masked net, and what the net itself says where it does."""
    masked = copy.deepcopy(masked)  # running in train mode changes it
    with torch.no_grad():
        answers = [outputs(masked, x, training)]
        if isinstance(masked, Net) and type(masked).alive is not Net.alive and not training:
            answers.append(_leaves(masked.alive(x, lambda name, dim: left[name][dim].tolist())))
    return answers


def _norms_of_what_is_left(masked: nn.Module, left: dict[str, list[Tensor]]) -> None:
    for name, layer in masked.named_modules():
        at = left.get(f"{name}.weight")
        if isinstance(layer, nn.LayerNorm) and at is not None and len(layer.normalized_shape) == 1:
            dim = 1 if type(layer).__name__.endswith("2d") else -1  # torchvision's and timm's own: of images
            layer.forward = lambda x, at=at[0], own=layer, dim=dim: norm_of(
                x.movedim(dim, 1), at.tolist(), 1, own.eps, own.weight, own.bias, rows=True
            ).movedim(1, dim)
        elif isinstance(layer, nn.GroupNorm) and at is not None:
            layer.forward = lambda x, at=at[0], own=layer: norm_of(
                x, at.tolist(), own.num_groups, own.eps, own.weight, own.bias
            )
        elif isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            width, rows = layer.embed_dim, len(left[f"{name}.in_proj_weight"][0]) // 3
            for value in (layer.in_proj_weight, layer.in_proj_bias):
                value[:width] *= (width / max(rows, 1)) ** 0.5


def norm_of(
    x: Tensor,
    kept: list[int],
    groups: int,
    eps: float,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    rows: bool = False,
) -> Tensor:
    """(N, C, …) normalised over the kept channels of each group, and over positions unless `rows`; others are 0."""
    out = torch.zeros_like(x)
    size = x.shape[1] // groups
    for group in range(groups):
        own = [channel for channel in kept if channel // size == group]
        if own:
            part = x[:, own]
            dims = 1 if rows else tuple(range(1, x.ndim))
            centred = part - part.mean(dims, keepdim=True)
            out[:, own] = centred / (centred.square().mean(dims, keepdim=True) + eps).sqrt()
    shape = (-1, *(1 for _ in x.shape[2:]))
    out = out * (weight.view(shape) if weight is not None else 1)
    mask = torch.zeros(x.shape[1]).index_fill(0, torch.tensor(kept), 1).view(shape)
    return (out + (bias.view(shape) if bias is not None else 0)) * mask


def outputs(net: nn.Module, x: Tensor, training: bool = False) -> list[Tensor]:
    """The tensors that a net returns; its statistics stay."""
    net = copy.deepcopy(net).train(training)
    torch.manual_seed(0)
    with torch.no_grad():
        return _leaves(net(x))


def gap(wanted: list[Tensor], given: list[Tensor]) -> float:
    """The largest difference, relative to the largest value; infinite where something is not finite."""
    pairs = list(zip(wanted, given, strict=True))
    if any(w.shape != g.shape or not (w.isfinite().all() and g.isfinite().all()) for w, g in pairs):
        return float("inf")
    return max(float((w - g).abs().max() / w.abs().max().clamp(min=1e-3)) for w, g in pairs)


def inputs(shape: Sequence[int]) -> Iterator[Tensor]:
    """Inputs on which nets that choose their branch by the input choose differently, of several batch sizes."""
    draws = torch.Generator().manual_seed(1)
    noise = torch.randn(4, *shape, generator=draws)
    yield noise
    yield torch.randn(1, *shape, generator=draws)
    yield noise[:3] + 3
    yield noise[:2] - 3
    yield torch.zeros(2, *shape)


@cache
def data(shape: tuple[int, ...]) -> Data:
    """A few inputs of that shape, uniform in [0, 1]."""
    return compressit.data("data.synthetic", shape=list(shape), classes=CLASSES, train=16, test=8)


def _leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def block(inner: int, outer: int, size: int = 3, **options: Any) -> nn.Sequential:
    """Convolution, batch norm, ReLU; positions stay."""
    options = {"padding": size // 2, "bias": False} | options
    return nn.Sequential(nn.Conv2d(inner, outer, size, **options), nn.BatchNorm2d(outer), nn.ReLU())


def pooled(x: Tensor) -> Tensor:
    """The mean over positions: (N, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)
