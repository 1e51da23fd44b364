from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.contract.classification import Classification, ClassificationConfig
from compressit.datasets.splits import order
from compressit.errors import CompressitError
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.train.supervised import Supervised, SupervisedConfig


def options(**values: Any) -> SupervisedConfig:
    return SupervisedConfig.model_validate({"batch_size": 64, **values})


def test_it_takes_the_steps_of_a_hand_written_loop(lab: Lab, device: str) -> None:
    task = Classification(ClassificationConfig(label_smoothing=0.1))
    ctx = lab.context(data=lab.data(device, train=150), device=device, task=task)
    config = options(epochs=2, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})
    trained = Supervised(config).train(lab.mlp(), ctx)

    model = lab.mlp().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = ctx.data.train.tensors()
    for epoch in range(2):
        for index in order(150, ctx.streams, epoch).split(64):
            log_p = F.log_softmax(model(x[index]), 1)
            target = F.one_hot(y[index], 10) * 0.9 + 0.01
            optimizer.zero_grad()
            (-(target * log_p).sum(1).mean()).backward()
            optimizer.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not trained.training
    assert Supervised(config).work(150).steps == len(ctx.arrays["loss"]) == 6


@pytest.mark.parametrize("values", [{"patience": 3}, {"restore_best": True}])
def test_selecting_without_a_validation_split_is_refused_with_help(values: dict[str, Any], lab: Lab) -> None:
    with pytest.raises(CompressitError, match=r"validation split(.|\n)*validation: 0\.1"):
        Supervised(options(**values)).train(lab.mlp(), lab.context(data=lab.data()))


def test_a_score_to_watch_without_anything_that_goes_by_it_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"monitor\n.*no effect without `patience` or `restore_best`"):
        options(monitor="loss")
    for values in ({"patience": 2}, {"restore_best": True}):
        assert options(monitor="loss", **values).monitor == "loss"
    assert parse(SupervisedConfig, dump(options())) == options()


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_it_ends_with_the_best_epoch_on_validation(monitor: str, lab: Lab, device: str) -> None:
    # labels of noise: validation gets worse as the training set is memorised
    data = lab.data(device, labels="random", validation=0.25, train=256)
    ctx = lab.context(data=data, device=device)
    config = options(epochs=15, restore_best=True, monitor=monitor, optimizer={"name": "adam", "lr": 0.01})
    model = Supervised(config).train(lab.mlp(32), ctx)
    validation = ctx.data.validation
    assert validation is not None
    scores = [value for _, value in ctx.curves[f"validation_{monitor}"]]
    assert len(scores) == 15
    best = max(range(15), key=lambda e: scores[e] if monitor == "accuracy" else -scores[e])
    assert ctx.notes["best_epoch"] == best + 1 < 15
    logits = ctx.compute.forward(model, validation.x)
    if monitor == "accuracy":
        assert float((logits.argmax(1) == validation.y).double().mean()) == scores[best]
    else:
        assert float(F.cross_entropy(logits, validation.y)) == pytest.approx(scores[best])
    steps = [step for step, _ in ctx.curves["validation_loss"]]
    assert steps == [step for step, _ in ctx.curves["loss"]]


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_an_epoch_whose_score_is_nan_is_never_the_best(
    monitor: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch's answers on the validation split are NaN, the others are not."""
    ctx = lab.context(data=lab.data(validation=0.25, train=64))
    forward, calls = type(ctx.compute).forward, []

    def broken(self: Any, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return forward(self, model, x) * (float("nan") if len(calls) == 1 else 1.0)

    monkeypatch.setattr(type(ctx.compute), "forward", broken)
    Supervised(options(epochs=3, restore_best=True, monitor=monitor)).train(lab.mlp(8), ctx)
    assert ctx.notes["best_epoch"] > 1
    assert ctx.curves["validation_accuracy"][0][1] == 0.0


def test_patience_counts_epochs_since_the_best(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(labels="random", validation=0.25, train=256))
    config = options(epochs=40, patience=3, monitor="loss", optimizer={"name": "adam", "lr": 0.01})
    Supervised(config).train(lab.mlp(32), ctx)
    scores = [value for _, value in ctx.curves["validation_loss"]]
    assert len(scores) < 40
    assert ctx.notes["epochs"] == ctx.notes["stopped_early"] == len(scores)
    assert scores.index(min(scores)) == len(scores) - 1 - 3
    assert ctx.notes["best_epoch"] == len(scores) - 3


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_killed_run_ends_with_the_tensors_of_one_never_killed(epochs: int, lab: Lab, device: str) -> None:
    data = lab.data(device, labels="random", validation=0.25, train=256)
    plugin = Supervised(
        options(
            epochs=30,
            patience=4,
            restore_best=True,
            schedule={"name": "cosine", "warmup": 1},
            optimizer={"name": "adamw", "lr": 0.01},
        )
    )
    whole = lab.context(data=data, device=device)
    expected = plugin.train(lab.mlp(32), whole)
    assert whole.notes["stopped_early"] > 4  # both kills happen before

    progress = KilledAfter(epochs)
    with pytest.raises(Killed):
        plugin.train(lab.mlp(32), lab.context(data=data, progress=progress, device=device))
    resumed = lab.context(data=data, progress=progress, device=device)
    model = plugin.train(lab.mlp(32, seed=99), resumed)  # the fresh weights must not matter any more
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert resumed.curves == whole.curves
    assert resumed.notes == whole.notes


def test_a_run_that_diverges_right_after_a_kill_still_goes_back_to_its_best(lab: Lab) -> None:
    good = lab.data(validation=0.25)
    plugin = Supervised(options(epochs=3, restore_best=True))
    progress = KilledAfter(1)
    with pytest.raises(Killed):
        plugin.train(lab.mlp(), lab.context(data=good, progress=progress))
    best = copy.deepcopy(progress.saved[0])
    broken = copy.deepcopy(good)
    broken.train.x.fill_(float("nan"))
    ctx = lab.context(data=broken, progress=progress)
    model = plugin.train(lab.mlp(), ctx)
    assert "epoch 2" in ctx.notes["diverged"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, best[f"model/{name}"])


def test_the_test_split_is_never_read(lab: Lab) -> None:
    data = lab.data(validation=0.25)
    other = copy.deepcopy(data)
    other.test.x.fill_(float("nan"))
    other.test.y.fill_(0)
    plugin = Supervised(options(epochs=3, patience=1, restore_best=True))
    models = [plugin.train(lab.mlp(), lab.context(data=d)) for d in (data, other)]
    for one, two in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("restore_best", [False, True])
def test_pruned_weights_stay_zero_unless_told_otherwise(
    optimizer: dict[str, Any], restore_best: bool, lab: Lab, device: str
) -> None:
    data = lab.data(device, labels="random", validation=0.25, train=256)

    def trained(**values: Any) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, Any]]:
        model = lab.mlp(32).to(device)
        masks = prune_smallest(model, 0.8)
        config = options(epochs=6, optimizer=optimizer, restore_best=restore_best, clip=1.0, **values)
        ctx = lab.context(data=data, device=device)
        return Supervised(config).train(model, ctx), masks, ctx.notes

    model, masks, notes = trained()
    for name, mask in masks.items():
        assert torch.equal(model.get_parameter(name) == 0, mask), name
    assert notes["zeros_kept"] == round(0.8 * (64 * 32 + 320))
    dense, masks, notes = trained(keep_zeros=False)
    for name, mask in masks.items():
        assert int((dense.get_parameter(name) == 0).sum()) < int(mask.sum()) / 2
    assert "zeros_kept" not in notes


def test_a_killed_training_of_a_pruned_net_ends_with_the_same_tensors(lab: Lab, device: str) -> None:
    data = lab.data(device, train=256)
    momentum = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    plugin = Supervised(options(epochs=5, optimizer=momentum))

    def run(**fields: Any) -> nn.Module:
        model = lab.mlp(32)
        prune_smallest(model, 0.8)
        return plugin.train(model, lab.context(data=data, device=device, **fields))

    expected, progress = run(), KilledAfter(2)
    with pytest.raises(Killed):
        run(progress=progress)
    for ours, theirs in zip(run(progress=progress).parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_fresh_net_trains_all_its_weights(lab: Lab) -> None:
    model = lab.mlp(32)
    prune_smallest(model, 0.8)  # stands for a builder that starts weights at zero
    ctx = lab.context(data=lab.data(), fresh=True)
    trained = Supervised(options(epochs=1)).train(model, ctx)
    assert int(trained.get_parameter("linear1.weight").count_nonzero()) > 0.9 * 64 * 32
    assert "zeros_kept" not in ctx.notes


def test_tracked_splits_are_logged_where_the_loss_is_and_change_no_weight(lab: Lab, device: str) -> None:
    data = lab.data(device, train=150)
    config = {"epochs": 250, "batch_size": "all", "optimizer": {"name": "sgd", "lr": 0.3}}
    ctx, plain = (lab.context(data=data, device=device) for _ in range(2))
    model = Supervised(options(**config, track=["train", "test"])).train(lab.mlp(), ctx)
    other = Supervised(options(**config)).train(lab.mlp(), plain)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert "test_accuracy" not in plain.curves
    steps = [step for step, _ in ctx.curves["loss"]]
    assert len(steps) < 250, "a long training has a point now and then"
    assert [step for step, _ in ctx.curves["test_accuracy"]] == steps
    for name in ("train", "test"):
        x, y = getattr(data, name).tensors()
        with torch.no_grad():
            logits = model(x)
        last = ctx.curves[f"{name}_accuracy"][-1]
        assert last == (250, float((logits.argmax(1) == y).double().mean()))
        assert ctx.curves[f"{name}_loss"][-1][1] == pytest.approx(float(F.cross_entropy(logits, y)))


def test_a_split_to_track_must_be_there(lab: Lab) -> None:
    data = dataclasses.replace(lab.data(), test=None)
    with pytest.raises(CompressitError, match="no test split"):
        Supervised(options(epochs=1, track=["test"])).train(lab.mlp(), lab.context(data=data))
    with pytest.raises(ValidationError, match="twice"):
        options(track=["test", "test"])
