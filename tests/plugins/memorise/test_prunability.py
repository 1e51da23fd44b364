"""`eval.prunability`, on nets whose loss is known for every weight that is gone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.task_spec import TaskSpec
from compressit_plugins.memorise.prunability import Prunability, PrunabilityConfig
from compressit_plugins.memorise.pruned_losses import grid, smallest
from compressit_plugins.tasks.regression import Regression, RegressionConfig


def context(lab: Lab, targets: Sequence[float]) -> Any:
    """One example for each weight: a one-hot input and its target."""
    train = (torch.eye(len(targets)), torch.tensor(targets)[:, None])
    inputs = TensorSpec((len(targets),))
    data = prepare(Sources(train), DataConfig(), 1, (), labelled=False, inputs=inputs)
    return lab.context(data=data, task=Regression(RegressionConfig(), TaskSpec("task.regression", 1)))


def linear(*weights: float) -> nn.Module:
    net = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
    return net


# Every target is 1 more than its weight, so the loss is 1; without a weight w the example's is (w + 1)²:
# without 1: 7/4; without 1 and 2: 15/4; without 1, 2 and 3: 30/4; without all: 54/4.
@pytest.mark.parametrize(
    ("eps", "kept"), [(0.5, 4), (0.75, 3), (1.0, 3), (2.75, 2), (6.0, 2), (6.5, 1), (12.0, 1), (12.5, 0)]
)
def test_the_fewest_weights_within_the_bound_worked_out_by_hand(lab: Lab, eps: float, kept: int) -> None:
    ctx, net = context(lab, [4.0, 2.0, 5.0, 3.0]), linear(3, 1, 4, 2)
    before = copy.deepcopy(net.state_dict())
    found = Prunability(PrunabilityConfig(eps=eps, points=2, least=0.25)).evaluate(net, ctx)
    assert (found["prunability"], found["prunability_weights"]) == (kept / 4, kept)
    assert found["prunability_loss"] == pytest.approx(1)
    assert ctx.curves["pruned_loss"] == [(1, pytest.approx(1)), (0.25, pytest.approx(30 / 4))]
    assert torch.equal(net.weight, before["weight"])


def test_by_chance_more_weights_are_needed_and_as_many_where_all_are_alike(lab: Lab) -> None:
    alike = Prunability(PrunabilityConfig(eps=4.5)).evaluate(linear(2, 2, 2, 2), context(lab, [3.0] * 4))
    assert alike["random_prunability"] == alike["prunability"] == 0.5  # a weight less: 2 more
    weights = [*torch.linspace(0.01, 1, 100)]
    ctx = context(lab, [float(w) + 0.3 for w in weights])
    found = Prunability(PrunabilityConfig(eps=1.0)).evaluate(linear(*map(float, weights)), ctx)
    assert found["random_prunability"] > found["prunability"] + 0.1


def test_pruned_weights_are_not_there(lab: Lab) -> None:
    ctx, net = context(lab, [4.0, 2.0, 5.0, 3.0, 0.0, 0.0]), linear(3, 1, 4, 2, 0, 0)
    found = Prunability(PrunabilityConfig(eps=0.8)).evaluate(net, ctx)
    assert (found["prunability"], found["prunability_weights"]) == (3 / 4, 3)  # the loss is 4/6, then 7/6
    assert ctx.curves["random_pruned_loss"][0] == (1, pytest.approx(4 / 6))


def test_all_layers_are_compared_together(lab: Lab) -> None:
    net = nn.Sequential(linear(3, 1, 4, 2), linear(1))
    with torch.no_grad():
        net[0].weight.mul_(0.1)
        net[1].weight.mul_(10)
    found = Prunability(PrunabilityConfig(eps=6.5)).evaluate(net, context(lab, [4.0, 2.0, 5.0, 3.0]))
    assert found["prunability_weights"] == 2  # the second layer's is the largest


def test_the_search_is_down_from_all_weights_and_exact() -> None:
    counts = grid(1000, 10, 0.001)
    assert (counts[0], counts[-1]) == (1000, 1)
    assert counts[1] == round(1000 * 0.001 ** (1 / 9))
    losses = {count: 1.0 if count >= 137 else 9.0 for count in counts}
    assert smallest(losses, lambda count: 1.0 if count >= 137 else 9.0, 2.0) == 137
    dip = {8: 1.0, 4: 9.0, 2: 1.0}
    assert smallest(dip, lambda count: 9.0 if count < 6 else 1.0, 2.0) == 6, "where it first leaves the bound"
    assert smallest({2: 1.0, 1: float("nan")}, lambda count: 9.0, 2.0) == 2
    assert smallest({2: 0.0, 1: 0.0}, lambda count: 0.0, 0.0) == 0


def test_a_model_without_a_finite_loss_has_no_prunability(lab: Lab) -> None:
    found = Prunability(PrunabilityConfig()).evaluate(linear(3, float("nan"), 4, 2), context(lab, [1.0] * 4))
    assert found.keys() == {"prunability_loss"}


def test_images_are_drawn_alike_for_every_model(lab: Lab) -> None:
    data = lab.data(train=200)
    one, two = (
        Prunability(PrunabilityConfig(images=50)).evaluate(lab.mlp(8), lab.context(data=data))
        for _ in range(2)
    )
    assert one == two
    whole = Prunability(PrunabilityConfig(images=200)).evaluate(lab.mlp(8), lab.context(data=data))
    assert whole["prunability_loss"] != one["prunability_loss"]
