"""A training in which at each step only the weights that matter most learn, and all others decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressit import StageContext, fit, keeping_zeros
from compressit_plugins.prune.masks import Pruning
from compressit_plugins.prune.options import SparseMomentumConfig


def condense(model: nn.Module, ctx: StageContext, config: SparseMomentumConfig, pruning: Pruning) -> None:
    """Trains `model` in place, then zeroes its smallest weights. Which weights learn is chosen anew at every step, so
    one that decays may come back."""
    train = ctx.data.train
    with keeping_zeros(model, ctx):
        fit(
            model,
            ctx,
            config,
            train,
            ctx.task.objective(train.y),
            on_gradients=Selection(pruning).choose,
        )
    pruning.zero()


@dataclass(frozen=True)
class Selection:
    """Which of a model's weights learn: as many as will be left, with the highest |w·dL/dw| of the minibatch."""

    pruning: Pruning

    def choose(self) -> None:
        """Zeroes the gradients of all others, which then only decay (Ding et al. 2019)."""
        weights = self.pruning.weights
        with torch.no_grad():
            scores = {name: (w * _gradient(w)).abs_() for name, w in weights.items()}
            for name, passive in self.pruning.lowest(scores).items():
                _gradient(weights[name]).mul_(~passive)


def _gradient(weight: nn.Parameter) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
