"""What a trainer or compressor may give back, and what it may not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from compressit.config import NoOptions
from compressit.contract.context import StageContext
from compressit.contract.kinds import Compressor, Trainer
from compressit.errors import CompressitError, NoEffectError
from compressit.running.apply import apply_plugin

Make = Callable[..., StageContext]
Change = Callable[[nn.Module, StageContext], Any]


def _compress(change: Change, model: nn.Module, ctx: StageContext) -> nn.Module:
    class Plugin(Compressor[NoOptions]):
        name = "test.compressor"

        def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
            return change(model, ctx)

    return apply_plugin(Plugin(NoOptions()), model, ctx)


def _train(change: Change, model: nn.Module, ctx: StageContext) -> nn.Module:
    class Plugin(Trainer[NoOptions]):
        name = "test.trainer"

        def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
            return change(model, ctx)

    return apply_plugin(Plugin(NoOptions()), model, ctx)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.ReLU(), nn.Linear(5, 4))


def _halve(model: nn.Module, ctx: StageContext) -> nn.Module:
    for weight in model.parameters():
        weight.data.mul_(0.5)
    return model


def _replace(index: int, module: nn.Module) -> Change:
    def change(model: Any, ctx: StageContext) -> nn.Module:
        model[index] = module
        return model

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda model, ctx: model,
        lambda model, ctx: _net(),
        lambda model, ctx: model.eval().requires_grad_(False),
    ],
)
def test_a_compressor_that_changes_nothing_is_told(make_context: Make, change: Change) -> None:
    with pytest.raises(NoEffectError, match=r"test\.compressor changed nothing"):
        _compress(change, _net(), make_context())


@pytest.mark.parametrize(
    "change",
    [
        _halve,
        lambda model, ctx: model.double(),  # another type
        _replace(2, nn.Tanh()),  # another layer without tensors
        _replace(1, nn.Linear(18, 5, bias=False)),
        lambda model, ctx: model.append(nn.BatchNorm1d(4)),
    ],
)
def test_every_kind_of_change_counts(make_context: Make, change: Change) -> None:
    assert isinstance(_compress(change, _net(), make_context()), nn.Module)


@pytest.mark.parametrize(
    "change", [_replace(1, nn.Linear(18, 6)), lambda model, ctx: model.append(nn.Linear(4, 4))]
)
def test_a_trainer_must_keep_every_shape(make_context: Make, change: Change) -> None:
    with pytest.raises(
        CompressitError, match=r"the trainer test\.trainer changed the shape of (1|4)\.weight"
    ):
        _train(change, _net(), make_context())


def test_zeros_that_a_trainer_gives_up_are_told(make_context: Make) -> None:
    net = _net()
    net[1].weight.data[:2] = 0  # 36 zeros
    said: list[Any] = []

    def revive_one_row(model: Any, ctx: StageContext) -> nn.Module:
        model[1].weight.data[0] = 1
        return model

    ctx = make_context(emit=said.append)
    _train(revive_one_row, net, ctx)
    assert ctx.notes["zeros_lost"] == 18
    assert "18 of the model's 36 zeros" in said[0]["announce"]
    quiet = make_context(emit=pytest.fail)
    _train(_halve, net, quiet)
    assert "zeros_lost" not in quiet.notes
    fresh = make_context(emit=pytest.fail, fresh=True)
    _train(revive_one_row, net, fresh)
    assert "zeros_lost" not in fresh.notes


def test_zeros_that_no_pruning_made_are_where_training_begins(make_context: Make) -> None:
    """A class token, a layer that starts at zero: torchvision's ViTs have them."""
    net = _net()
    net[1].weight.data.zero_()
    net.token = nn.Parameter(torch.zeros(1, 1, 8))

    def train(model: Any, ctx: StageContext) -> nn.Module:
        for parameter in model.parameters():
            parameter.data += 1
        return model

    ctx = make_context(emit=pytest.fail)
    _train(train, net, ctx)
    assert "zeros_lost" not in ctx.notes


@pytest.mark.parametrize(("result", "shown"), [(None, "nothing"), ({"1.weight": 1}, "a dict")])
@pytest.mark.parametrize("apply", [_train, _compress])
def test_what_is_no_model_is_refused(make_context: Make, apply: Any, result: object, shown: str) -> None:
    with pytest.raises(CompressitError, match=f"returned {shown}, not a model"):
        apply(lambda model, ctx: result, _net(), make_context())


def _hook(register: str) -> Change:
    def change(model: Any, ctx: StageContext) -> nn.Module:
        getattr(model[1], register)(lambda *arguments: None)
        return _halve(model, ctx)

    return change


def _parametrize(model: Any, ctx: StageContext) -> nn.Module:
    parametrizations.weight_norm(model[1])
    return model


@pytest.mark.parametrize(
    "change",
    [
        _parametrize,
        *map(_hook, ["register_forward_hook", "register_forward_pre_hook"]),
        *map(_hook, ["register_full_backward_hook", "register_full_backward_pre_hook"]),
    ],
)
def test_hooks_and_parametrizations_must_be_gone(make_context: Make, change: Change) -> None:
    with pytest.raises(CompressitError, match="left a hook or parametrization on '1'"):
        _compress(change, _net(), make_context())


def test_the_builders_own_hooks_may_stay(make_context: Make) -> None:
    model = _net()
    parametrizations.weight_norm(model[1])
    assert _train(_halve, model, make_context()) is model


@pytest.mark.parametrize("value", [torch.ones(2), np.float32(1), {1, 2}, object()])
def test_notes_must_be_json(make_context: Make, value: object) -> None:
    def change(model: nn.Module, ctx: StageContext) -> nn.Module:
        ctx.note(fine=[1, "two", None], odd=value)
        return _halve(model, ctx)

    with pytest.raises(CompressitError, match="noted 'odd', which is not a JSON value"):
        _compress(change, _net(), make_context())


def test_global_random_numbers_follow_the_stage_and_are_left_alone(make_context: Make) -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())

    drawn: list[tuple[float, float, float]] = []

    def change(model: nn.Module, ctx: StageContext) -> nn.Module:
        assert model.training
        drawn.append(draw())
        return model

    for seed in (1, 2):
        model = _net()
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        expected = draw()
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        assert _train(change, model, make_context()) is model
        assert draw() == expected
    assert drawn[0] == drawn[1], "the same numbers, whatever was drawn before"
