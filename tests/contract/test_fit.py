from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.compute import Compute
from compressit.contract.context import Progress, StageContext
from compressit.contract.fit import EpochEnd, StopTraining, fit
from compressit.contract.fit_options import FitConfig, OptimizerConfig, ScheduleConfig
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import order
from compressit.errors import CompressitError
from compressit.seeds import Streams

Make = Callable[..., StageContext]

torch.manual_seed(0)
X, Y = torch.randn(37, 5), torch.arange(37) % 3  # 37: at batch size 8 the last batch has 5
SGD = OptimizerConfig(lr=0.1, momentum=0.9)
ADAM = OptimizerConfig(name="adam", lr=0.01)
COSINE = ScheduleConfig(name="cosine", warmup=1.5)


class Killed(Exception):
    """Stands for SIGKILL."""


class Memory(Progress):
    """Keeps every state as a store would: tensors copied, facts as JSON."""

    def __init__(self) -> None:
        self.state: tuple[dict[str, Tensor], str] | None = None
        self.saves = 0
        self.refused: list[str] = []

    def refuse(self, why: str) -> None:
        self.refused.append(why)

    def due(self) -> bool:
        return True

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.saves += 1
        self.state = {name: value.detach().clone() for name, value in tensors.items()}, json.dumps(facts)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if self.state is None:
            return None
        tensors, facts = self.state
        return {name: value.clone() for name, value in tensors.items()}, json.loads(facts)


@pytest.mark.parametrize(
    "options", [SGD, ADAM, OptimizerConfig(name="adamw", weight_decay=0.1, decay_all=True)]
)
def test_fit_is_a_plain_torch_loop_bit_for_bit(
    make_context: Make, options: OptimizerConfig, device: str
) -> None:
    streams = Streams(7, "train")
    ctx = make_context(streams=streams, compute=Compute(device))
    ours = fit(
        _net(dropout=0), ctx, FitConfig(epochs=3, batch_size=8, optimizer=options), _data(device), _loss
    )
    theirs, losses = _net(dropout=0).to(device).train(), []
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    }[options.name](theirs.parameters())
    for epoch in range(3):
        for index in order(37, streams, epoch).split(8):
            value = F.cross_entropy(theirs(X[index].to(device)), Y[index].to(device))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
    _assert_same(ours.state_dict(), theirs.state_dict())
    np.testing.assert_array_equal(ctx.arrays["loss"], np.array(losses, np.float32))
    assert ctx.curves["loss"] == [
        (5.0 * (i + 1), pytest.approx(np.mean(losses[5 * i : 5 * i + 5]))) for i in range(3)
    ]


@settings(max_examples=30)
@given(
    optimizer=st.sampled_from(
        [SGD, ADAM, OptimizerConfig(lr=0.1), OptimizerConfig(name="adamw", weight_decay=0.1)]
    ),
    schedule=st.sampled_from([ScheduleConfig(), COSINE, ScheduleConfig(name="step", milestones=(2, 3))]),
    length=st.sampled_from(
        [
            {"epochs": 5, "batch_size": 8},
            {"steps": 23, "batch_size": 8},  # ends in mid-epoch
            {"steps": 5, "batch_size": "all"},
        ]
    ),
    kills=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_a_killed_run_ends_like_one_never_killed(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, length: dict[str, Any], kills: list[int]
) -> None:
    options = FitConfig(**length, optimizer=optimizer, schedule=schedule)
    whole = _run(options, Progress())
    progress = Memory()
    for epoch in kills:
        torch.manual_seed(epoch)  # another process: torch's own generator stands anywhere
        if progress.state is None or json.loads(progress.state[1])["epoch"] <= epoch:
            with pytest.raises(Killed):
                _run(options, progress, kill=epoch)
    torch.manual_seed(99)
    _assert_same_run(_run(options, progress), whole)


OTHER: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], object]] = {
    "one of more epochs": lambda tensors, facts: facts.update(epoch=5),
    "one that lost a step": lambda tensors, facts: tensors.update(losses=tensors["losses"][:-1]),
    "one of a smaller net": lambda tensors, facts: tensors.pop("model/0.weight"),
    "one of another shape": lambda tensors, facts: tensors.update({"model/0.weight": torch.zeros(1)}),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_saved_state_of_another_training_is_not_used(what: str) -> None:
    options, progress = FitConfig(epochs=4, batch_size=8, optimizer=ADAM), Memory()
    with pytest.raises(Killed):
        _run(options, progress, kill=2)
    assert progress.state is not None
    tensors, text = progress.state
    facts = json.loads(text)
    OTHER[what](tensors, facts)
    progress.state = tensors, json.dumps(facts)
    torch.manual_seed(99)
    _assert_same_run(_run(options, progress), _run(options))
    assert len(progress.refused) == 1


def test_a_resumed_run_does_only_the_rest_and_says_so(make_context: Make, device: str) -> None:
    options = FitConfig(epochs=5, batch_size=8, optimizer=ADAM)
    progress, events, visited = Memory(), [], []
    make = {"progress": progress, "compute": Compute(device)}
    with pytest.raises(Killed):
        fit(_net(), make_context(**make), options, _data(device, kill=3), _loss)

    def data(epoch: int) -> tuple[Tensor, ...]:
        visited.append(epoch)
        return X.to(device), Y.to(device)

    fit(_net(), make_context(**make, emit=events.append), options, data, _loss)
    assert visited == [3, 4]
    assert events[0] == {"resumed": 3}
    assert [event["epoch"] for event in events[1:]] == [4, 5]


def test_a_run_saves_when_due_but_not_at_its_end(make_context: Make) -> None:
    progress = Memory()
    fit(_net(), make_context(progress=progress), FitConfig(epochs=4, batch_size=8), _data(), _loss)
    assert progress.saves == 3
    progress.due = lambda: False  # type: ignore[method-assign]
    fit(_net(), make_context(progress=progress), FitConfig(epochs=4, batch_size=8), _data(), _loss)
    assert progress.saves == 3


@pytest.mark.parametrize(("part", "epoch"), [(0, 2), (1, 0), (1, 2)])
def test_a_stage_that_trains_twice_resumes_in_the_right_training(
    make_context: Make, part: int, epoch: int
) -> None:
    options = FitConfig(epochs=4, batch_size=8, optimizer=SGD)

    def stage(progress: Progress, kill: tuple[int, int] | None) -> tuple[nn.Module, StageContext]:
        ctx, model = make_context(progress=progress), _net()
        for number in range(2):
            stop = kill[1] if kill and kill[0] == number else None
            model = fit(model, ctx, options, _data(kill=stop), _loss)
            with torch.no_grad():
                model[0].weight[0] = 0.0  # type: ignore[index,union-attr]
        return model, ctx

    whole, whole_ctx = stage(Progress(), None)
    progress = Memory()
    with pytest.raises(Killed):
        stage(progress, (part, epoch))
    resumed, ctx = stage(progress, None)
    _assert_same(resumed.state_dict(), whole.state_dict())
    assert (ctx.notes, ctx.curves) == (whole_ctx.notes, whole_ctx.curves)
    assert ctx.notes == {"images_seen": 2 * 4 * 37, "epochs": 8}


def test_a_loss_that_is_no_number_stops_the_run_and_is_noted(make_context: Make) -> None:
    ctx, ended = make_context(), []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return _loss(outputs, targets) * (math.nan if len(ended) == 2 else 1.0)

    options = FitConfig(epochs=9, batch_size=8)
    model = fit(_net(), ctx, options, _data(), loss, lambda end, kept: ended.append(end.epoch))
    assert ended == [0, 1], "the broken epoch is not offered as a result"
    assert "nan in epoch 3" in ctx.notes["diverged"]
    assert ctx.notes["epochs"] == 3
    assert not model.training


def test_on_epoch_sees_an_eval_model_and_may_stop(make_context: Make) -> None:
    ctx, model, ends = make_context(), _net(), []

    def on_epoch(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        assert not model.training
        ends.append(end)
        if end.epoch == 1:
            raise StopTraining

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        assert model.training
        return _loss(outputs, targets)

    assert fit(model, ctx, FitConfig(epochs=9, batch_size=8), _data(), loss, on_epoch) is model
    assert [(end.epoch, end.images_seen) for end in ends] == [(0, 37), (1, 74)]
    assert [end.loss for end in ends] == [value for _, value in ctx.curves["loss"]]
    assert ctx.notes == {"images_seen": 74, "epochs": 2}
    assert not model.training


def test_what_on_epoch_keeps_is_the_callers_own_dict_also_after_a_kill(make_context: Make) -> None:
    options, progress = FitConfig(epochs=4, batch_size=8), Memory()

    def on_epoch(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        kept["epochs"] = kept.get("epochs", torch.zeros(())) + 1

    with pytest.raises(Killed):
        fit(_net(), make_context(progress=progress), options, _data(kill=2), _loss, on_epoch)
    kept: dict[str, Tensor] = {}
    fit(_net(), make_context(progress=progress), options, _data(), _loss, on_epoch, kept)
    assert kept == {"epochs": 4}


@pytest.mark.parametrize(("count", "size"), [(37, 8), (5, 50), (1, 1), (17, 8)])
def test_images_seen_and_losses_count_the_shorter_last_batch(
    make_context: Make, count: int, size: int
) -> None:
    """17 by 8: batch norm would refuse the last one alone, which joins the one before."""
    sizes: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(outputs))
        return _loss(outputs, targets)

    ctx, options = make_context(), FitConfig(epochs=2, batch_size=size)
    fit(nn.Linear(5, 3), ctx, options, lambda epoch: (X[:count], Y[:count]), loss)
    assert ctx.notes == {"images_seen": count * 2, "epochs": 2}
    assert len(sizes) == len(ctx.arrays["loss"]) == options.total_steps(count) == ctx.curves["loss"][-1][0]
    assert sum(sizes) == 2 * count
    assert count != 17 or sizes == [8, 9] * 2


def test_progress_events_tell_epoch_loss_and_accuracy(make_context: Make) -> None:
    events: list[Mapping[str, Any]] = []
    ctx = make_context(emit=events.append)
    # A step too small to change anything: the accuracy shown must be the model's own.
    options = FitConfig(epochs=2, batch_size=8, optimizer=OptimizerConfig(lr=1e-30))
    model = fit(nn.Linear(5, 3), ctx, options, _data(), _loss)
    accuracy = (model(X).argmax(1) == Y).float().mean().item()
    assert [(event["epoch"], event["epochs"]) for event in events] == [(1, 2), (2, 2)]
    assert [event["loss"] for event in events] == [value for _, value in ctx.curves["loss"]]
    assert [event["accuracy"] for event in events] == [pytest.approx(accuracy)] * 2
    assert all(event["seconds"] >= 0 for event in events)


@pytest.mark.parametrize("targets", [0, 1])
def test_any_number_and_shape_of_targets_can_be_fitted(make_context: Make, targets: int) -> None:
    teacher = torch.randn(37, 3)
    losses: list[Callable[..., Tensor]] = [
        lambda outputs: outputs.square().mean(),
        lambda outputs, wanted: F.mse_loss(outputs, wanted),
    ]
    ctx = make_context()
    data = (X, teacher)[: targets + 1]
    fit(nn.Linear(5, 3), ctx, FitConfig(epochs=30, batch_size=8), lambda epoch: data, losses[targets])
    assert ctx.curves["loss"][-1][1] < ctx.curves["loss"][0][1]


@pytest.mark.parametrize("augment", [[], ["flip"]])
def test_a_split_is_trained_on_as_it_comes(make_context: Make, augment: list[str]) -> None:
    """Its own batches, another augmentation each epoch: as a loop over them does."""
    generator, streams = torch.Generator().manual_seed(3), Streams(7, "train")
    x = torch.randint(0, 256, (37, 1, 2, 3), generator=generator, dtype=torch.uint8)
    sources = Sources((x, torch.arange(37) % 3), (x[:3], torch.arange(3)))
    options = DataConfig.model_validate({"augment": augment})
    split = prepare(sources, options, 3, ("a", "b", "c")).with_streams(streams).train

    def net() -> nn.Sequential:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 3))

    ours = fit(
        net(),
        make_context(streams=streams),
        FitConfig(epochs=3, batch_size=8, optimizer=SGD),
        split,
        F.cross_entropy,
    )
    theirs = net()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, fused=True)
    seen: list[Tensor] = []
    for epoch in range(3):
        for inputs, labels in split.batches(8, epoch):
            seen.append(inputs)
            optimizer.zero_grad()
            F.cross_entropy(theirs(inputs), labels).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    known = {tuple(image.flatten().tolist()) for image in x.float() / 255}
    new = [image for batch in seen for image in batch if tuple(image.flatten().tolist()) not in known]
    assert bool(new) == bool(augment)


def test_parameters_that_want_no_gradient_stay_untouched(make_context: Make) -> None:
    model = _net()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    options = FitConfig(epochs=2, batch_size=8, optimizer=OptimizerConfig(name="adamw", weight_decay=0.5))
    fit(model, make_context(), options, _data(), _loss)
    assert torch.equal(model[0].weight, before)
    assert not model[0].weight.requires_grad
    assert not torch.equal(model[3].weight, _net()[3].weight)


def test_nothing_is_left_on_the_model(make_context: Make) -> None:
    model, plain = _net(), _net()
    fit(model, make_context(), FitConfig(epochs=2, batch_size=8, schedule=COSINE, clip=1.0), _data(), _loss)
    for ours, theirs in zip(model.modules(), plain.modules(), strict=True):
        assert type(ours) is type(theirs)
        assert set(vars(ours)) == set(vars(theirs))
        assert not any(value for name, value in vars(ours).items() if "hook" in name)
    assert not any(module.training for module in model.modules())


def test_clip_bounds_the_norm_of_the_step(make_context: Make) -> None:
    model, plain = _net(dropout=0), _net(dropout=0)
    options = FitConfig(epochs=1, batch_size=37, optimizer=OptimizerConfig(lr=1.0), clip=0.01)
    fit(model, make_context(), options, _data(), lambda outputs, y: 100 * _loss(outputs, y))
    pairs = zip(model.parameters(), plain.parameters(), strict=True)
    moved = torch.cat([(a - b).flatten() for a, b in pairs]).norm().item()
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_the_schedule_sets_the_learning_rate_of_every_step(make_context: Make) -> None:
    # Without momentum, and with a loss whose gradient is 1, a step is exactly the learning rate.
    model = nn.Linear(1, 1, bias=False)
    weights = [model.weight.item()]

    def loss(outputs: Tensor) -> Tensor:
        weights.append(model.weight.item())
        return outputs.mean()

    schedule = ScheduleConfig(name="linear", warmup=1)
    options = FitConfig(epochs=3, batch_size=1, optimizer=OptimizerConfig(lr=0.5), schedule=schedule)
    fit(model, make_context(), options, lambda epoch: (torch.ones(2, 1),), loss)
    steps = -np.diff([*weights[1:], model.weight.item()])
    np.testing.assert_allclose(steps, 0.5 * np.array([0.5, 1, 1, 0.75, 0.5, 0.25]), atol=1e-6)


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Linear(5, 3).requires_grad_(False), "nothing to train: all 2 parameters of Linear are frozen"),
        (nn.ReLU(), "ReLU has no parameters"),
        (Detached(5, 3), "does not depend on any trainable parameter"),
        (
            nn.Sequential(nn.Unflatten(1, (5, 1)), nn.InstanceNorm1d(5, affine=True), nn.Flatten()),
            r"train mode .*in '1' \(InstanceNorm1d\)",  # one place per channel has no variance
        ),
    ],
)
def test_a_net_that_cannot_be_trained_is_refused_in_words(
    make_context: Make, net: nn.Module, words: str
) -> None:
    with pytest.raises(CompressitError, match=words):
        fit(net, make_context(), FitConfig(epochs=1), _data(), _loss)


def test_bf16_trains_float32_weights(make_context: Make) -> None:
    seen: list[torch.dtype] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(outputs.dtype)
        return _loss(outputs, targets)

    ctx = make_context(compute=Compute(precision="bf16"))
    model = fit(_net(), ctx, FitConfig(epochs=5, batch_size=8, optimizer=SGD), _data(), loss)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert ctx.curves["loss"][-1][1] < ctx.curves["loss"][0][1]


@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_fp64_is_a_plain_loop_in_float64_bit_for_bit(make_context: Make, targets: str) -> None:
    y = Y if targets == "labels" else torch.rand(37, 3, generator=torch.Generator().manual_seed(2)).softmax(1)
    ctx = make_context(compute=Compute(precision="fp64"), streams=Streams(7, "train"))
    options = FitConfig(epochs=3, batch_size=8, optimizer=ADAM)
    ours = fit(_net(dropout=0), ctx, options, lambda epoch: (X, y), _loss)
    theirs = _net(dropout=0).double()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for epoch in range(3):
        for index in order(37, Streams(7, "train"), epoch).split(8):
            optimizer.zero_grad()
            target = y[index] if targets == "labels" else y[index].double()
            F.cross_entropy(theirs(X[index].double()), target).backward()
            optimizer.step()
    assert {p.dtype for p in ours.parameters()} == {torch.float64}
    _assert_same(ours.state_dict(), theirs.state_dict())


def _net(dropout: float = 0.3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(dropout), nn.Linear(16, 3))


def _data(device: str = "cpu", kill: int | None = None) -> Callable[[int], tuple[Tensor, ...]]:
    def data(epoch: int) -> tuple[Tensor, ...]:
        if epoch == kill:
            raise Killed
        return X.to(device), Y.to(device)

    return data


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def _run(
    options: FitConfig, progress: Progress | None = None, kill: int | None = None
) -> tuple[nn.Module, StageContext, dict[str, Tensor]]:
    """A stage with everything that has state: batch norm, dropout, inputs that change, and a tensor kept."""
    ctx = StageContext(
        Compute(),
        Streams(2, "s", 1),
        lambda: None,  # type: ignore[arg-type,return-value]
        lambda ref: None,  # type: ignore[arg-type,return-value]
        progress=progress or Progress(),
    )
    model, last = _net(), {}
    ctx.note(before=1)

    def data(epoch: int) -> tuple[Tensor, ...]:
        if epoch == kill:
            raise Killed
        return X + torch.randn(X.shape, generator=ctx.streams.generator("noise", epoch)), Y

    def on_epoch(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        kept["sum"] = kept.get("sum", torch.zeros(())) + model(X).detach().sum()
        last.update(kept)
        ctx.log(end.epoch, kept=float(kept["sum"]))

    return fit(model, ctx, options, data, _loss, on_epoch), ctx, last


def _assert_same_run(ours: Any, theirs: Any) -> None:
    (model, ctx, kept), (other_model, other_ctx, other_kept) = ours, theirs
    _assert_same(model.state_dict(), other_model.state_dict())
    _assert_same(kept, other_kept)
    np.testing.assert_array_equal(ctx.arrays["loss"], other_ctx.arrays["loss"])
    assert ctx.curves == other_ctx.curves
    assert ctx.notes == other_ctx.notes


def _assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
