from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from compressit.contract.context import StageContext
from compressit.datasets.splits import Data
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.train.supervised import Supervised, SupervisedConfig


def test_the_options_decide_sizes_and_values_lie_in_the_unit_interval(synthetic: Callable[..., Data]) -> None:
    data = synthetic(classes=3, shape=(2, 4, 5), train=31, test=7)
    assert data.train.x.shape == (31, 2, 4, 5)
    assert data.test.x.shape == (7, 2, 4, 5)
    assert data.train.y.bincount().tolist() == [11, 10, 10]
    assert 0 <= float(data.train.x.min()) < float(data.train.x.max()) <= 1


def test_the_seed_of_random_labels_moves_no_input(synthetic: Callable[..., Data]) -> None:
    one, other = synthetic(labels="random", seed=1), synthetic(labels="random", seed=2)
    assert torch.equal(one.train.x, other.train.x)
    assert not torch.equal(one.train.y, other.train.y)


def test_a_small_mlp_learns_it(
    synthetic: Callable[..., Data],
    build_mlp: Callable[..., nn.Module],
    make_context: Callable[..., StageContext],
) -> None:
    data = synthetic()
    ctx = make_context(data=data)
    options = SupervisedConfig.model_validate({"epochs": 10, "optimizer": {"name": "adam", "lr": 0.01}})
    model = Supervised(options).train(build_mlp(16), ctx)
    accuracy, _ = accuracy_and_loss(ctx.compute.forward(model, data.test.x), data.test.y)
    assert accuracy > 0.95
