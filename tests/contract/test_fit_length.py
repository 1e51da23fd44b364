"""How long a training is, what it costs and tells: `steps`, full batches, `on_step`, curves, parameter groups."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.contract import fit_told
from compressit.contract.context import Progress, StageContext
from compressit.contract.fit import EpochEnd, StopTraining, fit
from compressit.contract.fit_options import FitConfig, OptimizerConfig, ScheduleConfig
from compressit.contract.fit_state import build_optimizer
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import InMemory
from compressit.seeds import Streams

Make = Callable[..., StageContext]

torch.manual_seed(0)
X, Y = torch.randn(37, 5), torch.arange(37) % 3  # at batch size 8 an epoch has 5 steps
SGD = OptimizerConfig(lr=0.1, momentum=0.9)
Batch = tuple[Tensor, Tensor]


def test_an_ordinary_training_is_the_loop_it_always_was(make_context: Make) -> None:
    """Order and dropout of each epoch come from numbers made here, by the rule that published results were made by."""
    ours = fit(_net(), make_context(), FitConfig(epochs=3, batch_size=8, optimizer=SGD), _data, _loss)

    def batches() -> Iterator[Batch]:
        for epoch in range(3):
            torch.manual_seed(_stream("layers", epoch))
            yield from _shuffled(epoch)

    assert _bits(ours) == _bits(_by_hand(batches(), dropout=0.3))


def test_steps_end_the_training_in_mid_epoch(make_context: Make) -> None:
    ctx, ends = make_context(), list[tuple[int, int, int]]()
    options = FitConfig(steps=13, batch_size=8, optimizer=SGD)
    ours = fit(
        _net(0), ctx, options, _data, _loss, lambda e, _: ends.append((e.epoch, e.steps, e.images_seen))
    )
    whole = fit(
        _net(0), longer := make_context(), FitConfig(epochs=3, batch_size=8, optimizer=SGD), _data, _loss
    )
    assert ends == [(0, 5, 37), (1, 10, 74), (2, 13, 98)]
    assert ctx.notes == {"images_seen": 98, "epochs": 3}
    assert ctx.curves["loss"][-1][0] == len(ctx.arrays["loss"]) == 13
    np.testing.assert_array_equal(ctx.arrays["loss"], longer.arrays["loss"][:13])
    assert _bits(ours) != _bits(whole)
    batches = [batch for epoch in range(3) for batch in _shuffled(epoch)]
    assert _bits(ours) == _bits(_by_hand(batches[:13]))


def test_a_full_batch_is_the_tensors_themselves_in_their_order(make_context: Make) -> None:
    seen: list[Tensor] = []
    net = _net(0)
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    options, ctx = FitConfig(steps=6, batch_size="all", optimizer=SGD), make_context()
    ours = fit(net, ctx, options, _data, _loss)
    assert all(inputs is X for inputs in seen)
    assert ctx.notes == {"images_seen": 6 * 37, "epochs": 6}
    assert _bits(ours) == _bits(_by_hand([(X, Y)] * 6))


def test_a_splits_full_batch_gathers_nothing_and_is_augmented(raw: Sources) -> None:
    split = InMemory(X, Y, Streams(0, "s"))
    (inputs, labels), *more = split.batches("all", 3)
    assert inputs is X
    assert labels is Y
    assert not more
    augmented = prepare(raw, DataConfig(augment=("flip",)), 4, tuple("abcd")).train
    ((inputs, labels),) = augmented.batches("all", 1)
    ((wanted, theirs),) = augmented.visit([torch.arange(len(augmented))], 1)
    assert torch.equal(inputs, wanted)
    assert not torch.equal(inputs, augmented.x)
    assert torch.equal(labels, theirs)


def test_the_schedule_counts_in_steps_where_they_give_the_length(make_context: Make) -> None:
    # Without momentum, and with a loss whose gradient is 1, a step is exactly the learning rate.
    model = nn.Linear(1, 1, bias=False)
    weights = [model.weight.item()]
    options = FitConfig(
        steps=6,
        batch_size=2,  # 4 steps in an epoch
        optimizer=OptimizerConfig(lr=0.5),
        schedule=ScheduleConfig(name="linear", warmup=2),
    )
    fit(
        model,
        make_context(),
        options,
        lambda epoch: (torch.ones(8, 1),),
        lambda outputs: outputs.mean(),
        on_step=lambda steps, loss: weights.append(model.weight.item()),
    )
    np.testing.assert_allclose(-np.diff(weights), 0.5 * np.array([0.5, 1, 1, 0.75, 0.5, 0.25]), atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 3, "steps": 20},
        {"steps": 0},
        {"batch_size": 0},
        {"batch_size": "some"},
        {"steps": 5, "schedule": {"warmup": 5}},
        {"steps": 50, "schedule": {"name": "step", "milestones": [20, 50]}},
        {"optimizer": {"decay_all": True}},
    ],
)
def test_lengths_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(FitConfig, values)


def test_a_training_of_steps_is_resolved_and_counted() -> None:
    options = parse(FitConfig, {"steps": 20, "schedule": {"warmup": 15}, "batch_size": "all"})
    assert parse(FitConfig, dump(options)) == options
    assert (options.total_steps(37), options.total_epochs(37), options.images_per_step(37)) == (20, 20, 37)
    options = FitConfig(steps=13, batch_size=8)
    assert (options.total_steps(37), options.total_epochs(37), options.images_per_step(37)) == (13, 3, 8)
    options = FitConfig(batch_size="all")
    assert (options.total_steps(37), options.total_epochs(37)) == (10, 10)
    with pytest.raises(ValidationError, match="20 steps"):
        parse(FitConfig, {"steps": 20, "schedule": {"warmup": 20}})


def test_on_step_hears_of_every_step_and_may_stop_at_once(make_context: Make) -> None:
    ctx, heard, ends = make_context(), list[tuple[int, Tensor]](), list[EpochEnd]()

    def on_step(steps: int, loss: Tensor) -> None:
        heard.append((steps, loss))
        if steps == 7:
            raise StopTraining

    options = FitConfig(epochs=4, batch_size=8, optimizer=SGD)
    model = fit(_net(), ctx, options, _data, _loss, lambda end, _: ends.append(end), on_step=on_step)
    assert [steps for steps, _ in heard] == [1, 2, 3, 4, 5, 6, 7]
    assert not any(loss.requires_grad or loss.ndim for _, loss in heard)
    np.testing.assert_array_equal([loss.item() for _, loss in heard], ctx.arrays["loss"])
    assert [end.epoch for end in ends] == [0], "the epoch that was cut off has no end"
    assert ctx.notes == {"images_seen": 37 + 16, "epochs": 2}
    assert ctx.curves["loss"][-1][0] == 7
    assert not model.training


def test_an_epoch_of_many_steps_keeps_every_loss(make_context: Make) -> None:
    ctx, heard = make_context(), list[float]()
    fit(
        nn.Linear(5, 3),
        ctx,
        FitConfig(epochs=2, batch_size=1),
        lambda epoch: (X.repeat(60, 1), Y.repeat(60)),
        _loss,
        on_step=lambda steps, loss: heard.append(loss.item()),
    )
    assert len(heard) == 2 * 60 * 37
    np.testing.assert_array_equal(ctx.arrays["loss"], heard)
    means = np.array(heard, np.float32).reshape(2, -1).mean(1)
    assert [value for _, value in ctx.curves["loss"]] == pytest.approx(list(means))


def test_a_long_training_is_cheap_to_tell_and_to_save(
    make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_told.time, "perf_counter", lambda: 0.0)  # no time passes
    events, progress = list[Mapping[str, Any]](), _Last()
    ctx = make_context(emit=events.append, progress=progress)
    options = FitConfig(steps=1000, batch_size="all", optimizer=SGD)
    fit(nn.Linear(5, 3), ctx, options, _data, _loss)
    assert [event["epoch"] for event in events] == [1, 1000]
    assert sorted(progress.tensors) == ["losses", "model/bias", "model/weight", *progress.momenta]
    assert len(progress.tensors["losses"]) == 999
    steps = [step for step, _ in ctx.curves["loss"]]
    assert steps == [*range(1, 11), *range(20, 1001, 10)]
    assert [step for step, _ in ctx.curves["accuracy"]] == steps
    assert [value for _, value in ctx.curves["loss"]] == [ctx.arrays["loss"][int(step) - 1] for step in steps]


def test_slow_epochs_are_all_told_with_their_accuracy(
    make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr(fit_told.time, "perf_counter", lambda: float(next(now)))
    events: list[Mapping[str, Any]] = []
    fit(nn.Linear(5, 3), make_context(emit=events.append), FitConfig(epochs=300, batch_size=37), _data, _loss)
    assert [event["epoch"] for event in events] == list(range(1, 301))
    assert all(event["accuracy"] is not None for event in events)


def test_the_accuracy_curve_is_the_one_shown(make_context: Make) -> None:
    model, ctx = nn.Linear(5, 3), make_context()
    fit(model, ctx, FitConfig(epochs=2, batch_size=8, optimizer=OptimizerConfig(lr=1e-30)), _data, _loss)
    accuracy = (model(X).argmax(1) == Y).float().mean().item()
    assert ctx.curves["accuracy"] == [(5, pytest.approx(accuracy)), (10, pytest.approx(accuracy))]
    unknown = make_context()
    fit(
        nn.Linear(5, 3), unknown, FitConfig(epochs=2), lambda e: (X,), lambda outputs: outputs.square().mean()
    )
    assert "accuracy" not in unknown.curves


def test_a_loss_that_is_no_number_ends_even_short_epochs_at_once(make_context: Make) -> None:
    ctx, calls = make_context(), list[int]()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        return _loss(outputs, targets) * (math.inf if len(calls) == 555 else 1.0)

    fit(nn.Linear(5, 3), ctx, FitConfig(steps=1000, batch_size="all"), _data, loss)
    assert len(calls) == len(ctx.arrays["loss"]) == 555
    assert ctx.notes["diverged"] == "the loss became inf in epoch 555"
    assert ctx.curves["loss"][-1] == (555, math.inf)


def test_by_default_biases_and_norms_do_not_decay(make_context: Make) -> None:
    options = OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.1)
    ours = fit(_net(0), make_context(), FitConfig(steps=5, batch_size="all", optimizer=options), _data, _loss)

    def theirs(net: nn.Module) -> torch.optim.Optimizer:
        named = dict(net.named_parameters())
        decays = [named.pop("0.weight"), named.pop("3.weight")]
        rest = {"params": list(named.values()), "weight_decay": 0.0}
        return torch.optim.AdamW([{"params": decays}, rest], lr=0.01, weight_decay=0.1, fused=True)

    assert _bits(ours) == _bits(_by_hand([(X, Y)] * 5, theirs))
    every = options.model_copy(update={"decay_all": True})
    ours = fit(_net(0), make_context(), FitConfig(steps=5, batch_size="all", optimizer=every), _data, _loss)
    whole = _by_hand(
        [(X, Y)] * 5, lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    )
    assert _bits(ours) == _bits(whole)


def test_without_decay_there_is_one_group_as_ever() -> None:
    assert len(build_optimizer(_net(), SGD, "cpu").param_groups) == 1
    decay = OptimizerConfig(weight_decay=0.1)
    assert [g["weight_decay"] for g in build_optimizer(_net(), decay, "cpu").param_groups] == [0.1, 0.0]
    assert len(build_optimizer(nn.Linear(5, 3, bias=False), decay, "cpu").param_groups) == 1


class _Last(Progress):
    """The state saved last; saves whenever it can."""

    tensors: Mapping[str, Tensor]

    def due(self) -> bool:
        return True

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.tensors = dict(tensors)
        json.dumps(facts)

    @property
    def momenta(self) -> list[str]:
        return [f"optimizer/{index}/momentum_buffer" for index in range(2)]


def _net(dropout: float = 0.3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(dropout), nn.Linear(16, 3))


def _data(epoch: int) -> tuple[Tensor, ...]:
    return X, Y


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def _stream(purpose: str, epoch: int) -> int:
    """A 63-bit number, of the context's seed 0, stage "train" and no round."""
    text = json.dumps([0, purpose, "train", None, epoch])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _shuffled(epoch: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(_stream("order", epoch))
    return [(X[index], Y[index]) for index in torch.randperm(37, generator=generator).split(8)]


def _sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, fused=True)


def _by_hand(
    batches: Iterable[Batch],
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer] = _sgd,
    dropout: float = 0,
) -> nn.Module:
    net = _net(dropout).train()
    optimizer = optimizer_of(net)
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    return net


def _bits(net: nn.Module) -> str:
    """A digest of all weights and buffers."""
    whole = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
    return hashlib.sha256(whole).hexdigest()
