"""Layers as matrices: which of a net can be factored, and the products that take their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressit import Factored, InputTensors, call
from compressit_plugins.prune.weights import computed

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_READERS = (nn.MultiheadAttention, nn.RNNBase, nn.TransformerEncoderLayer)
"""They read their own weights, or those of their layers, without calling these."""
_MULTIPLY = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, Factored)  # pyright: ignore[reportPrivateUsage]
_PLACES = ("kernel_size", "stride", "padding", "dilation", "padding_mode")


@dataclass(frozen=True)
class Matrix:
    """A layer as the matrix that each position's inputs are multiplied with: a convolution's has a column for each
    input channel and place of its kernel (Zhang et al. 2016, section 2.1)."""

    name: str
    layer: nn.Module  # a plain layer, or Factored
    positions: int  # where it is computed in a forward pass of one input, over all its calls

    @property
    def parts(self) -> tuple[Any, ...]:
        """The layers that are multiplied: itself, or the two of a product."""
        return _parts(self.layer)

    @property
    def rows(self) -> int:
        return len(self.parts[-1].weight)

    @property
    def columns(self) -> int:
        return self.parts[0].weight[0].numel()

    @property
    def weights(self) -> int:
        """Of the layer as it is, without the bias."""
        return sum(part.weight.numel() for part in self.parts)

    @property
    def bias(self) -> Tensor | None:
        return self.parts[-1].bias

    @torch.no_grad()
    def values(self) -> Tensor:
        """(rows, columns), float64, on the CPU."""
        values = self.parts[0].weight.flatten(1).cpu().double()
        for part in self.parts[1:]:
            values = part.weight.flatten(1).cpu().double() @ values
        return values


@dataclass(frozen=True)
class Outputs:
    """Moments of a layer's outputs over all positions, float64, on the CPU."""

    mean: Tensor  # (rows,)
    second: Tensor  # (rows, rows): the mean of outer products


def factorable(model: nn.Module, example: InputTensors) -> tuple[list[Matrix], dict[str, str]]:
    """The layers of `model` that can be replaced by products, and why the other layers that multiply cannot.

    `example`: one input (1, ...). The net is run on it, in the mode that it is in.
    """
    modules = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    tensors = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    left: dict[str, str] = {}
    found: dict[str, nn.Module] = {}
    for at, module in model.named_modules():
        holder = model.get_submodule(at.rpartition(".")[0])
        if not isinstance(module, _MULTIPLY) or (isinstance(holder, Factored) and at):
            continue
        shared = modules[id(module)] > 1 or any(tensors[id(tensor)] > 1 for tensor in module.parameters())
        if why := "shares its weights" if shared else _unfit(at, module, holder):
            left[at] = why
        else:
            found[at] = module
    positions: Counter[str] = Counter()

    def count(at: str, y: Tensor) -> None:
        positions[at] += y.numel() // _rows(found[at])

    _run(model, found, [example], count)
    left |= {at: "did not run, or its weights are read elsewhere" for at in found if at not in positions}
    return [Matrix(at, layer, positions[at]) for at, layer in found.items() if at in positions], left


def moments(
    model: nn.Module, matrices: Sequence[Matrix], batches: Iterable[InputTensors]
) -> dict[str, Outputs]:
    """The moments of these layers' outputs over the batches (N, ...), by layer; the net's mode is not changed."""
    layers = {matrix.name: matrix.layer for matrix in matrices}
    counts: Counter[str] = Counter()
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(at: str, y: Tensor) -> None:
        last = _parts(layers[at])[-1]
        y = y if isinstance(last, nn.Linear) else y.movedim(-len(last.kernel_size) - 1, -1)
        y = y.reshape(-1, _rows(layers[at]))
        counts[at] += len(y)
        now = y.sum(0).cpu().double(), (y.T @ y).cpu().double()
        before = sums.get(at)
        sums[at] = now if before is None else (before[0] + now[0], before[1] + now[1])

    _run(model, layers, batches, add)
    return {at: Outputs(mean / counts[at], second / counts[at]) for at, (mean, second) in sums.items()}


def directions(matrix: Matrix, outputs: Outputs | None) -> tuple[Tensor, Tensor]:
    """The directions of a layer's outputs (rows, R) and the energy of each (R,), from the largest; R is the smaller
    side of the matrix.

    Without `outputs` they are the left singular vectors, and the energies squared singular values: the product that
    keeps the first r of them is the nearest of rank r (Eckart & Young 1936). With `outputs` they are their principal
    components, and that product changes the outputs least, in the mean of squares, where a bias takes up the mean
    (Zhang et al. 2016, section 2.1).
    """
    if outputs is None:
        left, values, _ = torch.linalg.svd(matrix.values(), full_matrices=False)
        return left, values.square()
    spread = outputs.second
    if matrix.bias is not None:
        spread = spread - outputs.mean.outer(outputs.mean)
    values, vectors = torch.linalg.eigh(spread)
    count = min(matrix.rows, matrix.columns)
    return vectors.flip(1)[:, :count], values.flip(0)[:count].clamp_min(0)


@torch.no_grad()
def product(matrix: Matrix, kept: Tensor, outputs: Outputs | None) -> Factored:
    """Two layers in place of one: the projection of its outputs on the directions `kept` (rows, rank).

    Both factors have rows of the same norms, as is best for training them (Khodak et al., "Initialization and
    regularization of factorized neural layers", 2021).
    """
    first, last = matrix.parts[0], matrix.parts[-1]
    inner = kept.T @ matrix.values()  # (rank, columns)
    norms = inner.norm(dim=1).sqrt()
    norms[norms == 0] = 1.0
    bias = None if matrix.bias is None else matrix.bias.cpu().double()
    if bias is not None and outputs is not None:
        missed = outputs.mean - bias
        bias = bias + missed - kept @ (kept.T @ missed)
    pair = _pair(first, matrix.rows, len(norms), bias is not None)
    trained = first.weight.requires_grad
    for layer, values in zip(pair, (inner / norms[:, None], kept * norms), strict=True):
        layer.weight = _parameter(values.reshape(layer.weight.shape), first.weight, trained)
    if bias is not None:
        pair[1].bias = _parameter(bias, last.bias, last.bias.requires_grad)
    return Factored(*pair)


def _pair(layer: Any, rows: int, rank: int, bias: bool) -> tuple[Any, Any]:
    """Layers without values that a product of that rank needs; the first is computed where `layer` is."""
    kind = type(layer)
    if kind is nn.Linear:
        return (
            nn.Linear(layer.in_features, rank, bias=False, device="meta"),
            nn.Linear(rank, rows, bias=bias, device="meta"),
        )
    places = {name: getattr(layer, name) for name in _PLACES}
    return (
        kind(layer.in_channels, rank, bias=False, device="meta", **places),
        kind(rank, rows, 1, bias=bias, device="meta"),
    )


def _parameter(values: Tensor, like: Tensor, trained: bool) -> nn.Parameter:
    return nn.Parameter(values.to(like).contiguous(), trained)


def _unfit(at: str, module: nn.Module, holder: nn.Module) -> str | None:
    """Why a layer cannot be replaced; None if it can."""
    kind = type(module).__name__
    if not at:
        return "is the whole net"
    if isinstance(module, _READERS):
        return f"is a {kind}, which does not call layers for its products"
    if isinstance(holder, _READERS):
        return f"{type(holder).__name__} reads its weights itself"
    if any(type(part) not in _PLAIN for part in _parts(module)):
        return f"is a {kind}"
    if (made := computed(module)) is not None:
        return f"is {made[0]}"
    if any(getattr(part, "groups", 1) > 1 for part in _parts(module)):
        return "has groups"
    return None


def _parts(layer: nn.Module) -> tuple[Any, ...]:
    return tuple(layer) if isinstance(layer, Factored) else (layer,)


def _rows(layer: nn.Module) -> int:
    return len(_parts(layer)[-1].weight)


@torch.no_grad()
def _run(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Iterable[InputTensors],
    told: Callable[[str, Tensor], None],
) -> None:
    """Runs the net on each batch; `told` gets each of the layers' outputs."""

    def hook(at: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, inputs, y: told(at, y)

    hooks = [layer.register_forward_hook(hook(at)) for at, layer in layers.items()]
    try:
        for batch in batches:
            call(model, batch)
    finally:
        for handle in hooks:
            handle.remove()
