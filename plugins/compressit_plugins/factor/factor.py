"""Replaces layers by products of two, as a plain function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from compressit import (
    CompressitError,
    InputTensors,
    NoEffectError,
    call,
    did_you_mean,
    macs,
    parameters,
    pruned_zeros,
)
from compressit_plugins.factor.layers import Matrix, directions, factorable, moments, product
from compressit_plugins.factor.ranks import Layer, for_energy, within_budget
from compressit_plugins.prune.weights import matches


@dataclass(frozen=True)
class Asked:
    """What a factorization must reach."""

    target: Literal["macs", "parameters", "energy"]
    keep: float
    ranks: Mapping[str, int]  # of single layers, by globs; the last that matches counts
    ignore: Sequence[str]  # globs


@dataclass(frozen=True)
class FactorReport:
    """What was requested and what was achieved. Fractions are relative to the given model."""

    decided: bool  # by `ranks` alone, whatever the weights are
    requested: float
    achieved: float  # fraction kept of what the target names; of energy the least of all factored layers
    parameters_kept: float
    macs_kept: float
    ranks: Mapping[
        str, tuple[int, int]
    ]  # of each factored layer: its rank, and the smaller side of its matrix
    energies: Mapping[str, float]  # the fraction of its energy that each factored layer keeps
    skipped: Mapping[str, str]  # layers that cannot be factored, and why


def factor(
    model: nn.Module,
    example: InputTensors,
    asked: Asked,
    batches: Iterable[InputTensors] | None = None,
    fresh: bool = False,
) -> FactorReport:
    """Replaces layers of `model` in place by products of two of lower rank (`layers.product`).

    `example`: one input (1, ...) on the model's device. `batches`: training inputs (N, ...), for the directions in
    which layers' outputs vary; None: those of the weights alone. `fresh`: no zero of the model is from pruning;
    otherwise layers with such zeros stay, since a product would fill them.
    Modes are restored. Raises CompressitError if the target is out of reach or the net does not run afterwards;
    NoEffectError if no layer would be factored or a glob matches none.
    """
    before = parameters(model), macs(model, example)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        matrices, skipped = _candidates(model, example, asked, fresh)
        outputs = {} if batches is None else moments(model, matrices, batches)
        found = {m.name: directions(m, outputs.get(m.name)) for m in matrices}
        costs = [m.weights * (m.positions if asked.target == "macs" else 1) for m in matrices]
        layers = {
            m.name: Layer(found[m.name][1].tolist(), cost, cost // m.weights * (m.rows + m.columns))
            for m, cost in zip(matrices, costs, strict=True)
        }
        whole = before[asked.target == "macs"]
        ranks = _chosen(layers, asked, whole)
        for matrix in matrices:
            if (rank := ranks[matrix.name]) is not None:
                holder, _, name = matrix.name.rpartition(".")
                kept = found[matrix.name][0][:, :rank]
                setattr(model.get_submodule(holder), name, product(matrix, kept, outputs.get(matrix.name)))
        _check_runs(model, example)
    finally:
        for module, mode in modes:
            module.training = mode
    for matrix in matrices:
        model.get_submodule(matrix.name).train(matrix.layer.training)
    done = {name: rank for name, rank in ranks.items() if rank is not None}
    kept = parameters(model) / before[0], macs(model, example) / max(before[1], 1)
    energies = {name: layers[name].kept[rank] for name, rank in done.items()}
    achieved = {"parameters": kept[0], "macs": kept[1], "energy": min(energies.values())}[asked.target]
    decided = _of_single(layers, asked.ranks).keys() == layers.keys()
    return FactorReport(
        decided,
        achieved if decided else asked.keep,
        achieved,
        *kept,
        {name: (rank, len(layers[name].energies)) for name, rank in done.items()},
        energies,
        skipped,
    )


def _candidates(
    model: nn.Module, example: InputTensors, asked: Asked, fresh: bool
) -> tuple[list[Matrix], dict[str, str]]:
    """The layers that may be factored, and why others may not. Raises NoEffectError if none may."""
    matrices, skipped = factorable(model, example)
    known = [matrix.name for matrix in matrices]
    for glob in asked.ignore:
        if not any(matches(name, [glob]) for name in (*known, *skipped)):
            raise NoEffectError(f"'{glob}' matches no layer of the model", did_you_mean(glob, known))
    zeros = {} if fresh else pruned_zeros(model)
    pruned = {name.rpartition(".")[0] for name in zeros}
    for matrix in matrices:
        if any(at == matrix.name or at.startswith(f"{matrix.name}.") for at in pruned):
            skipped[matrix.name] = "has zeros from pruning, which a product would fill"
    matrices = [m for m in matrices if m.name not in skipped and not matches(m.name, asked.ignore)]
    if not matrices:
        why = "; ".join(f"{name} {reason}" for name, reason in list(skipped.items())[:5])
        hint = "factor before pruning single weights" if pruned else None
        raise NoEffectError(f"no layer can be factored ({why or 'all are ignored'})", hint)
    return matrices, skipped


def _chosen(layers: Mapping[str, Layer], asked: Asked, whole: int) -> dict[str, int | None]:
    """A rank for each layer, None for one that stays as it is."""
    ranks: dict[str, int | None] = dict(_of_single(layers, asked.ranks))
    for name, rank in ranks.items():
        if rank is not None and rank > layers[name].most:
            raise CompressitError(
                f"rank {rank} of {name} saves nothing: two layers would cost as much as one",
                f"use at most {layers[name].most}, or put {name} in `ignore`",
            )
    rest = {name: layer for name, layer in layers.items() if name not in ranks}
    if asked.target == "energy":
        ranks |= {name: for_energy(layer, asked.keep) for name, layer in rest.items()}
    elif rest:
        others = whole - sum(layer.whole for layer in layers.values())
        others += sum(layers[name].cost(rank) for name, rank in ranks.items())
        found = within_budget(list(rest.values()), asked.keep * whole - others)
        if found is None:
            least = others + sum(layer.cost(1 if layer.most else None) for layer in rest.values())
            raise CompressitError(
                f"keep {asked.keep:.3g} is out of reach: with rank 1 everywhere, {least / whole:.3g} is left",
                "use a larger `keep`, smaller `ranks`, or fewer layers in `ignore`",
            )
        ranks |= zip(rest, found, strict=True)
    if all(rank is None for rank in ranks.values()):
        raise NoEffectError(
            f"no layer would be factored: none keeps {asked.keep:.3g} of its energy at a rank that saves anything"
            if asked.target == "energy"
            else f"no layer would be factored to keep {asked.keep:.3g}",
            "use a smaller `keep`",
        )
    return ranks


def _of_single(layers: Mapping[str, Layer], ranks: Mapping[str, int]) -> dict[str, int]:
    """The ranks that globs give single layers. Raises NoEffectError for a glob that matches none."""
    found: dict[str, int] = {}
    for glob, rank in ranks.items():
        own = {name: rank for name in layers if matches(name, [glob])}
        if not own:
            raise NoEffectError(f"'{glob}' matches no layer that can be factored", did_you_mean(glob, layers))
        found |= own
    return found


@torch.no_grad()
def _check_runs(model: nn.Module, example: InputTensors) -> None:
    try:
        call(model, example)
    except Exception as error:
        raise CompressitError(
            f"the factored net does not run: {type(error).__name__}: {error}",
            "a layer whose weights the net reads itself cannot be factored: put it in `ignore`",
        ) from error
