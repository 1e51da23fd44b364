from __future__ import annotations

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit_plugins.evaluate.size import Size
from compressit_plugins.prune.masks import prune_smallest


def test_a_pruned_net_is_sparse_not_smaller(lab: Lab, device: str) -> None:
    model = lab.mlp(20).to(device)
    evaluator, ctx = Size(Size.Config()), lab.context(data=lab.data(device), device=device)
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


def test_a_net_without_parameters_has_a_size(lab: Lab) -> None:
    values = Size(Size.Config()).evaluate(nn.Flatten(), lab.context())
    assert set(values.values()) == {0}
    assert torch.is_grad_enabled()
