from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from compressit.contract.context import StageContext
from compressit.datasets.splits import Data
from compressit_plugins.evaluate.size import Size
from compressit_plugins.prune.masks import prune_smallest


def test_a_pruned_net_is_sparse_not_smaller(
    synthetic: Callable[..., Data],
    build_mlp: Callable[..., nn.Module],
    make_context: Callable[..., StageContext],
    device: str,
) -> None:
    model = build_mlp(20).to(device)
    evaluator, ctx = Size(Size.Config()), make_context(data=synthetic(device), device=device)
    dense = evaluator.evaluate(model, ctx)
    prune_smallest(model, 0.75)
    sparse = evaluator.evaluate(model, ctx)
    weights, biases = 64 * 20 + 20 * 10, 30
    assert dense == {
        "parameters": weights + biases,
        "nonzero": weights + biases,
        "sparsity": 0,
        "macs": weights,
        "bytes": 4 * (weights + biases),
    }
    assert sparse == {
        **dense,
        "nonzero": weights // 4 + biases,
        "sparsity": pytest.approx(0.75 * weights / (weights + biases)),
    }
    assert set(sparse) == set(Size.metrics)


def test_a_net_without_parameters_has_a_size(make_context: Callable[..., StageContext]) -> None:
    values = Size(Size.Config()).evaluate(nn.Flatten(), make_context())
    assert set(values.values()) == {0}
    assert torch.is_grad_enabled()
