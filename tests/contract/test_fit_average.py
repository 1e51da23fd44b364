"""`ema`: the average of a training's weights is what is validated and given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.context import Progress, StageContext
from compressit.contract.fit import EpochEnd, StopTraining, fit
from compressit.contract.fit_options import FitConfig
from compressit.contract.zeros import keeping_zeros, pruned_zeros
from compressit.seeds import Streams

Make = Callable[..., StageContext]
OnEpoch = Callable[[EpochEnd, dict[str, Tensor]], None]

torch.manual_seed(0)
X, Y = torch.rand(24, 2, 6, 6), torch.arange(24) % 3
OPTIONS = {"epochs": 4, "batch_size": 8, "optimizer": {"lr": 0.1, "momentum": 0.9}}


class Memory(Progress):
    """Keeps what is saved, and the stage goes on."""

    def __init__(self) -> None:
        self.states: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        self.given: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def due(self) -> bool:
        return True

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.given

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        self.states.append((copies, {**facts, "curves": dict(facts["curves"])}))


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


def trained(
    make_context: Make, model: nn.Module, on_epoch: OnEpoch | None = None, **options: Any
) -> nn.Module:
    progress = options.pop("progress", Progress())
    on_step = options.pop("on_step", None)
    ctx = make_context(streams=Streams(7, "train"), progress=progress)
    config = FitConfig.model_validate(OPTIONS | options)
    return fit(model, ctx, config, lambda epoch: (X, Y), F.cross_entropy, on_epoch, on_step=on_step)


def test_it_is_the_average_of_the_weights_after_every_step(make_context: Make) -> None:
    model, seen = net(), []
    plain = trained(make_context, model, on_step=lambda step, loss: seen.append(copy_of(model)))
    averaged = trained(make_context, net(), ema=0.9)
    expected = seen[0]
    for step, weights in enumerate(seen[1:], 1):
        decay = min(0.9, 1 - (1 + step) ** (-2 / 3))
        for name, value in weights.items():
            whole = not value.is_floating_point()
            expected[name] = value if whole else decay * expected[name] + (1 - decay) * value
    torch.testing.assert_close(copy_of(averaged), expected)
    assert averaged[1].num_batches_tracked == plain[1].num_batches_tracked == 12
    assert not torch.equal(averaged[0].weight, plain[0].weight)


@pytest.mark.extra("timm")
def test_its_warm_up_is_timms(make_context: Make) -> None:
    utils = pytest.importorskip("timm.utils")
    model, theirs = net(), []

    def step(number: int, loss: Tensor) -> None:
        if not theirs:
            theirs.append(utils.ModelEmaV3(model, decay=0.8, use_warmup=True))
        theirs[0].update(model, step=number)

    trained(make_context, model, on_step=step)
    ours = trained(make_context, net(), ema=0.8)
    torch.testing.assert_close(copy_of(ours), copy_of(theirs[0].module))


def test_the_steps_are_those_without_it_to_the_bit(make_context: Make) -> None:
    memory, plain = Memory(), Memory()
    trained(make_context, net(), ema=0.99, progress=memory)
    trained(make_context, net(), progress=plain)
    for (tensors, _), (without, _) in zip(memory.states, plain.states, strict=True):
        assert all(torch.equal(tensors[name], value) for name, value in without.items())
        assert {name.partition("/")[0] for name in tensors.keys() - without.keys()} == {"average"}


def test_what_is_seen_after_an_epoch_is_what_is_given(make_context: Make) -> None:
    model, seen = net(), []

    def on_epoch(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        seen.append(copy_of(model))
        if end.epoch == 1:
            raise StopTraining

    trained(make_context, model, on_epoch, ema=0.9)
    short = trained(make_context, net(), ema=0.9, epochs=2)
    assert len(seen) == 2
    torch.testing.assert_close(seen[-1], copy_of(model), rtol=0, atol=0)
    torch.testing.assert_close(copy_of(short), copy_of(model), rtol=0, atol=0)


@pytest.mark.parametrize("at", [0, 2])
def test_a_resumed_training_ends_with_the_same_bits(at: int, make_context: Make) -> None:
    memory = Memory()
    whole = trained(make_context, net(), ema=0.95, progress=memory)
    resumed = Memory()
    resumed.given = memory.states[at]
    again = trained(make_context, net(), ema=0.95, progress=resumed)
    assert len(resumed.states) == 3 - (at + 1), "it did only the rest"
    torch.testing.assert_close(copy_of(again), copy_of(whole), rtol=0, atol=0)


def test_pruned_weights_stay_zero_also_those_pruned_on_the_way(make_context: Make) -> None:
    model = net()
    with torch.no_grad():
        model[0].weight[:, :, 0] = 0
    zeros = pruned_zeros(model)
    with keeping_zeros(model, make_context(fresh=False)):
        trained(make_context, model, ema=0.9)
    assert torch.equal(model[0].weight == 0, zeros["0.weight"])
    model = net()

    def prune(step: int, loss: Tensor) -> None:
        if step >= 9:
            with torch.no_grad():
                model[4].weight[:, :48] = 0

    trained(make_context, model, on_step=prune, ema=0.9)
    assert int((model[4].weight == 0).sum()) == 3 * 48


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
