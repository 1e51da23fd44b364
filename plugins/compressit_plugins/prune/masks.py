"""Which weights go, and zeroing them: at once, or on the way to a number that is reached exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressit import NoEffectError, StageContext
from compressit_plugins.prune.lowest import Of, itself, lowest_but_one, lowest_in_rows
from compressit_plugins.prune.options import Scope
from compressit_plugins.prune.rows import as_rows, transposed
from compressit_plugins.prune.shares import counted, divided
from compressit_plugins.prune.weights import select_weights

Scored = Callable[[int], Mapping[str, Tensor]]
"""The scores of all weights after so many optimizer steps, of their shapes; None: their magnitudes."""


@dataclass(frozen=True)
class Part:
    """Weights that are compared with each other."""

    names: Sequence[str]
    zeros: int  # of them when pruning begins
    target: int  # zeros when it ends

    def count(self, done: float) -> int:
        """Zeros when this much of the way is done, from 0 to 1."""
        return self.zeros + round((self.target - self.zeros) * done)

    def compounded(self, done: float, total: int) -> int:
        """The same, where equal parts of the way take an equal fraction of what is left of `total`."""
        first, last = total - self.zeros, total - self.target
        return total - round(first * (last / first) ** done) if first > last else self.target


@dataclass(frozen=True)
class Pruning:
    """The weights of a model that are to be pruned, and how far."""

    weights: Mapping[str, nn.Parameter]
    parts: Sequence[Part]
    groups: Mapping[str, int]  # of the transposed convolutions among them
    rows: bool  # whether weights are compared within the rows of their matrix only

    @staticmethod
    def of(
        model: nn.Module,
        sparsity: float,
        scope: Scope = "global",
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        also: Sequence[str] = (),
        sparsities: Mapping[str, float] | None = None,
    ) -> Pruning:
        """Raises as `select_weights`, `divided` and `counted` do."""
        weights = select_weights(model, include, exclude, also)
        sizes = {name: weight.numel() for name, weight in weights.items()}
        parts = divided(sizes, sparsity, scope, sparsities)
        found = [
            Part(names, sum(_zeros(weights[name]) for name in names), count)
            for (names, _), count in zip(parts, counted(sizes, parts), strict=True)
        ]
        return Pruning(weights, found, transposed(model), scope == "row")

    @property
    def selected(self) -> int:
        """The number of weights of which some go."""
        return sum(weight.numel() for weight in self.weights.values())

    @property
    def targets(self) -> list[int]:
        """How many zeros each part will have."""
        return [part.target for part in self.parts]

    def zeros(self) -> dict[str, int]:
        """How many there are now, by name."""
        return {name: _zeros(weight) for name, weight in self.weights.items()}

    def facts(self) -> dict[str, Any]:
        """What a pruner notes of the zeros that there are now."""
        zeros = self.zeros()
        count = sum(zeros.values())
        layers = {name: zeros[name] / weight.numel() for name, weight in self.weights.items()}
        return {
            "achieved": count / self.selected,
            "zeros": count,
            "selected": self.selected,
            "layers": layers,
        }

    def is_short(self) -> bool:
        """Whether there are fewer zeros than there will be."""
        zeros = self.zeros()
        return any(sum(zeros[name] for name in part.names) < part.target for part in self.parts)

    def lowest(
        self, scores: Mapping[str, Tensor] | None = None, done: float = 1, compounding: bool = False
    ) -> dict[str, Tensor]:
        """Bool masks of the lowest scores, by name, so many that this much of the way is done. `scores`: None for
        magnitudes. `compounding`: see `Part`."""
        made: dict[str, Tensor] = {}
        for part in self.parts:
            total = sum(self.weights[name].numel() for name in part.names)
            count = part.compounded(done, total) if compounding else part.count(done)
            values = {
                name: self.weights[name].detach() if scores is None else scores[name] for name in part.names
            }
            made |= self._lowest(values, count, scores is None)
        return {name: made[name] for name in self.weights}

    def zero(
        self, scores: Mapping[str, Tensor] | None = None, done: float = 1, compounding: bool = False
    ) -> dict[str, Tensor]:
        """Zeroes the lowest, in place, and returns their masks: see `lowest`. Weights that are zero go first."""
        if scores is not None:
            scores = {
                name: score.masked_fill(self.weights[name].detach() == 0, -torch.inf)
                for name, score in scores.items()
            }
        masks = self.lowest(scores, done, compounding)
        with torch.no_grad():
            for name, mask in masks.items():
                self.weights[name].masked_fill_(mask, 0)
        return masks

    def _lowest(self, values: Mapping[str, Tensor], count: int, sizes: bool) -> dict[str, Tensor]:
        of = torch.abs if sizes else itself
        if not self.rows:
            return lowest_but_one(values, count, of)
        return {name: self._lowest_in_rows(name, value, count, of) for name, value in values.items()}

    def _lowest_in_rows(self, name: str, values: Tensor, count: int, of: Of) -> Tensor:
        found = as_rows(values, self.groups.get(name))
        mask = torch.empty(values.shape, dtype=torch.bool, device=values.device)
        view = as_rows(mask, self.groups.get(name))
        view.copy_(
            lowest_in_rows(found.reshape(found.shape[0] * found.shape[1], -1), count, of).view(view.shape)
        )
        return mask


def prune_smallest(
    model: nn.Module,
    sparsity: float,
    scope: Scope = "global",
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    also: Sequence[str] = (),
    sparsities: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Zeroes the smallest weights of `model` in place. Returns bool masks of the zeros by parameter name.

    Raises as `Pruning.of` does, and NoEffectError if nothing changes.
    """
    pruning = Pruning.of(model, sparsity, scope, include, exclude, also, sparsities)
    before = pruning.zeros()
    masks = pruning.zero()
    if pruning.zeros() == before:
        raise no_effect(sparsity, pruning.selected)
    return masks


def tried(of: Callable[[int], Pruning], ctx: StageContext, sparsity: float) -> Pruning:
    """The pruning of this round, from that after so many rounds. Raises NoEffectError if it changes nothing for any
    weights: before anything is trained, so by the numbers of zeros alone."""
    times = ctx.round or 1
    pruning = of(times)
    given = 0 if ctx.feed == "original" else times - 1  # the rounds before have made their zeros
    before = of(given).targets if given else [0] * len(pruning.targets)
    if all(now <= then for now, then in zip(pruning.targets, before, strict=True)):
        raise no_effect(sparsity, pruning.selected)
    return pruning


def no_effect(sparsity: float, weights: int) -> NoEffectError:
    """The error if pruning this fraction of this many weights changes none."""
    return NoEffectError(
        f"pruning {sparsity:g} of {weights:,} weights changes none of them",
        "the sparsity rounds to no weight, or that many weights are already zero: raise `sparsity`",
    )


def _zeros(weight: Tensor) -> int:
    return weight.numel() - int(weight.count_nonzero())
