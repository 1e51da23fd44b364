"""Linear nets, whose attacks can be worked out by hand, and data for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressit.contract.compute import Compute
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit_plugins.adversarial.victim import Victim

W, B = (4.0, 3.0, -1.0), -3.0


def binary(weights: Sequence[float] = W, bias: float = B) -> nn.Module:
    """Class 0 where weights @ x + bias > 0, else 1. For inputs (N, 1, 1, D)."""
    linear = nn.Linear(len(weights), 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([list(weights), [0.0] * len(weights)]))
        linear.bias.copy_(torch.tensor([bias, 0.0]))
    return nn.Sequential(nn.Flatten(), linear).eval()


def margins(x: Tensor) -> Tensor:
    """W @ x + B of inputs (N, ...)."""
    return x.flatten(1) @ torch.tensor(W) + B


def victim(model: nn.Module, low: float = 0.0, high: float = 1.0) -> Victim:
    return Victim(model, Compute(), torch.zeros(1), torch.ones(1), low, high)


def data(x: Tensor, y: Tensor, unbounded: bool = False, **options: Any) -> Data:
    """These examples as both splits; without bounds, or in 0..1."""
    spec = TensorSpec(tuple(x.shape[1:]), low=None if unbounded else 0.0, high=None if unbounded else 1.0)
    names = tuple("abc"[: int(y.max()) + 1]) if int(y.max()) > 1 else ("a", "b")
    sources = Sources((x, y), (x, y))
    return prepare(sources, DataConfig.model_validate(options), len(names), names, inputs=spec)
