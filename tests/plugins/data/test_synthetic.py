from __future__ import annotations

import torch
from plugin_lab import Lab

from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.train.supervised import Supervised, SupervisedConfig


def test_the_options_decide_sizes_and_values_lie_in_the_unit_interval(lab: Lab) -> None:
    data = lab.data(classes=3, shape=(2, 4, 5), train=31, test=7)
    assert data.train.x.shape == (31, 2, 4, 5)
    assert data.test.x.shape == (7, 2, 4, 5)
    assert data.train.y.bincount().tolist() == [11, 10, 10]
    assert 0 <= float(data.train.x.min()) < float(data.train.x.max()) <= 1


def test_the_seed_of_random_labels_moves_no_input(lab: Lab) -> None:
    one, other = lab.data(labels="random", seed=1), lab.data(labels="random", seed=2)
    assert torch.equal(one.train.x, other.train.x)
    assert not torch.equal(one.train.y, other.train.y)


def test_a_small_mlp_learns_it(lab: Lab) -> None:
    data = lab.data()
    ctx = lab.context(data=data)
    options = SupervisedConfig.model_validate({"epochs": 10, "optimizer": {"name": "adam", "lr": 0.01}})
    model = Supervised(options).train(lab.mlp(16), ctx)
    accuracy, _ = accuracy_and_loss(ctx.compute.forward(model, data.test.x), data.test.y)
    assert accuracy > 0.95
