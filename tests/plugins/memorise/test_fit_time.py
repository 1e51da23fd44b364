"""`eval.fit_time`, against a training written by hand."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from plugin_lab import Killed, Lab
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.contract.context import Progress
from compressit.errors import CompressitError
from compressit_plugins.memorise.fit_time import FitTime
from compressit_plugins.memorise.fitting import refresh
from compressit_plugins.memorise.options import FitTimeConfig
from compressit_plugins.prune.masks import prune_smallest

FULL = {"batch_size": "all", "optimizer": {"lr": 0.5, "momentum": 0.9}}


def options(**values: Any) -> FitTimeConfig:
    return parse(FitTimeConfig, {**FULL, **values})


def by_hand(model: nn.Module, x: torch.Tensor, y: torch.Tensor, reach: float) -> int:
    """Steps of full-batch gradient descent until so many examples are right."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for step in range(1, 1000):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if float((model(x).argmax(1) == y).double().mean()) >= reach:
            return step
    raise AssertionError("never")


def test_steps_are_those_of_a_training_written_by_hand(lab: Lab) -> None:
    ctx, model = lab.context(data=lab.data(train=120)), lab.mlp(40)
    before = copy.deepcopy(model.state_dict())
    found = FitTime(options(reach=0.95)).evaluate(model, ctx)
    x, y = ctx.data.train.tensors()
    fresh = lab.mlp(40, seed=5)  # whatever its weights are
    refresh(fresh, {}, ctx.streams.number("fresh weights"))
    drawn = torch.randint(10, (120,), generator=ctx.streams.generator("random labels"))
    assert found["given_fit_steps"] == by_hand(copy.deepcopy(fresh), x, y, 0.95)
    assert found["random_fit_steps"] == by_hand(copy.deepcopy(fresh), x, drawn, 0.95)
    assert found["fit_steps_ratio"] == found["random_fit_steps"] / found["given_fit_steps"] > 1.5
    assert found["random_fit_reached"] == 1
    assert ctx.curves["random_fit"][-1] == (found["random_fit_steps"], found["random_fit_accuracy"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not ctx.notes, "trainings that measure are no part of the model's past"


def test_a_net_can_start_from_its_own_weights(lab: Lab) -> None:
    ctx, model = lab.context(data=lab.data(train=120)), lab.mlp(40)
    x, y = ctx.data.train.tensors()
    by_hand(model, x, y, 1.0)
    found = FitTime(options(start="model", labels=["given"])).evaluate(model, ctx)
    assert found["given_fit_steps"] == 1
    assert "fit_steps_ratio" not in found


def test_what_the_limit_ends_has_no_number_of_steps(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=120))
    found = FitTime(options(epochs=2, labels=["random"])).evaluate(lab.mlp(40), ctx)
    assert found["random_fit_reached"] == 0
    assert "random_fit_steps" not in found
    assert ctx.curves["random_fit"][-1] == (2, found["random_fit_accuracy"])
    wild = {**FULL, "optimizer": {"lr": 1e30}}
    assert FitTime(parse(FitTimeConfig, wild)).evaluate(lab.mlp(40), ctx)["given_fit_reached"] == 0


def test_pruned_weights_stay_zero_and_so_does_what_the_net_can_learn(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=120))
    dense, sparse = lab.mlp(40), lab.mlp(40)
    prune_smallest(sparse, 0.995)
    asked = FitTime(options(epochs=300, labels=["random"], reach=0.9))
    assert asked.evaluate(dense, ctx)["random_fit_reached"] == 1
    assert asked.evaluate(sparse, ctx)["random_fit_reached"] == 0


def test_given_labels_are_the_datasets_own_whatever_the_variant_learns(lab: Lab) -> None:
    true, fake = (
        FitTime(options(labels=["given"], images=100)).evaluate(lab.mlp(40), lab.context(data=data))
        for data in (lab.data(train=120), lab.data(train=120, labels="random"))
    )
    assert true == fake
    assert true["given_fit_reached"] == 1


class KilledOnce(Progress):
    """Keeps every state as a store would, and raises once after so many."""

    def __init__(self, after: int) -> None:
        self.after, self.saves, self.state = after, 0, ""
        self.tensors: dict[str, Tensor] = {}

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return (self.tensors, json.loads(self.state)) if self.state else None

    def due(self) -> bool:
        return True

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.tensors = {name: value.detach().clone() for name, value in tensors.items()}
        self.state, self.saves = json.dumps(facts), self.saves + 1
        if self.saves == self.after:
            raise Killed


def test_a_killed_measurement_goes_on_and_repeats_nothing_that_was_finished(lab: Lab) -> None:
    asked = FitTime(options(batch_size=40, optimizer={"lr": 0.1}, epochs=30))
    whole = lab.context(data=lab.data(train=120), progress=KilledOnce(-1))
    expected = asked.evaluate(lab.mlp(40), whole)
    epochs = len(whole.curves["given_fit"]) + len(whole.curves["random_fit"])
    assert (expected["given_fit_reached"], expected["random_fit_reached"]) == (1, 0)
    for after in (3, epochs - 5):  # while the first is learned, and the second
        progress = KilledOnce(after)
        with pytest.raises(Killed):
            asked.evaluate(lab.mlp(40), lab.context(data=lab.data(train=120), progress=progress))
        again = lab.context(data=lab.data(train=120), progress=progress)
        assert asked.evaluate(lab.mlp(40), again) == expected
        assert again.curves == whole.curves
        assert progress.saves == whole.progress.saves


def test_what_cannot_be_given_fresh_weights_is_named(lab: Lab) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(64, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) @ self.scale

    ctx = lab.context(data=lab.data(train=120))
    with pytest.raises(CompressitError, match=r"Odd.*fresh weights"):
        FitTime(options()).evaluate(Odd(), ctx)
    assert FitTime(options(start="model", labels=["given"])).evaluate(Odd(), ctx)["given_fit_reached"] == 1


def test_the_limit_is_in_epochs_or_in_steps() -> None:
    assert options(steps=50).total_steps(100) == 50
    assert parse(FitTimeConfig, dump(options(epochs=7))) == options(epochs=7)
    for wrong in ({"steps": 5, "epochs": 5}, {"labels": []}, {"labels": ["given", "given"]}, {"reach": 1.5}):
        with pytest.raises(ValidationError):
            options(**wrong)
