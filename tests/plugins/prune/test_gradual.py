"""Pruning during a training: when, how much, what stays, and what a kill changes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.datasets.splits import order
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.prune.gradual import CURVES, Schedule
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig
from compressit_plugins.prune.options import GradualConfig

MOMENTUM = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
ADAM = {"name": "adam", "lr": 0.01}
WEIGHTS = ("linear1.weight", "output.weight")


def plugin(
    optimizer: dict[str, Any] = MOMENTUM, clip: float | None = None, epochs: int = 3, **options: Any
) -> Magnitude:
    finetune = {"epochs": epochs, "batch_size": 30, "optimizer": optimizer, "clip": clip}
    given = {"sparsity": 0.8, "gradual": {"every": 2}, "finetune": finetune, **options}
    return Magnitude(MagnitudeConfig.model_validate(given))


def zeros(net: nn.Module) -> int:
    return sum(int((net.get_parameter(name) == 0).sum()) for name in WEIGHTS)


@pytest.mark.parametrize(
    ("curve", "formula"),
    [
        ("linear", lambda t: t),
        ("cubic", lambda t: 1 - (1 - t) ** 3),
        # Hubens et al. 2021, equation 3, from 0 to 1
        ("one_cycle", lambda t: (1 + math.exp(-14 + 5)) / (1 + math.exp(-14 * t + 5))),
    ],
)
def test_sparsity_grows_by_the_published_formula(curve: str, formula: Any, lab: Lab) -> None:
    ctx, gradual = (
        lab.context(data=lab.data(train=90)),
        {"curve": curve, "start": 0.1, "end": 0.7, "every": 3},
    )
    net = plugin(epochs=10, gradual=gradual).compress(lab.mlp(), ctx)  # 30 steps: 3 … 21
    total = 64 * 16 + 160
    made = [round(round(0.8 * total) * formula((step - 3) / 18)) / total for step in (6, 9, 12, 15, 18, 21)]
    assert ctx.curves["sparsity"] == list(zip((6, 9, 12, 15, 18, 21), made, strict=True))
    assert zeros(net) == round(0.8 * total) == ctx.notes["zeros"]


@pytest.mark.parametrize("options", [{}, {"start": 0.9}, {"end": 0.01}, {"end": 1.0}, {"every": 1000}])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_it_ends_within_the_training_and_exactly(options: dict[str, Any], steps: int) -> None:
    schedule = Schedule.of(GradualConfig.model_validate(options), steps)
    due = [step for step in range(1, steps + 1) if schedule.due(step)]
    assert due[-1] == schedule.last
    assert schedule.done(due[-1]) == 1
    assert all(schedule.done(step) < 1 for step in due[:-1])


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("score", ["magnitude", "movement"])
def test_it_takes_the_steps_of_a_hand_written_loop(score: str, clip: float | None, lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=90))
    trained = plugin(clip=clip, score=score).compress(lab.mlp(), ctx)

    model = lab.mlp()
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.ndim > 1]},
        {"params": [p for p in named.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    masks = {name: torch.ones_like(named[name]) for name in WEIGHTS}
    moved = {name: torch.zeros_like(named[name]) for name in WEIGHTS}
    x, y = ctx.data.train.tensors()
    total, step = 64 * 16 + 160, 0
    for epoch in range(3):
        for index in order(90, ctx.streams, epoch).split(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            for name in WEIGHTS:
                moved[name] -= named[name].detach() * named[name].grad
            if clip is not None:  # of what is left
                for name in WEIGHTS:
                    named[name].grad *= masks[name]
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
            if step in (2, 4, 6):  # of 9 steps, .75 are 6
                count = round(round(0.8 * total) * (1 - (1 - step / 6) ** 3))
                with torch.no_grad():
                    for name in WEIGHTS:
                        named[name] *= masks[name]
                ranks = [named[n].abs() if score == "magnitude" else moved[n] for n in WEIGHTS]
                flat = torch.cat([r.flatten() for r in ranks]).detach().clone()
                flat[torch.cat([named[n].flatten() for n in WEIGHTS]) == 0] = -math.inf
                mask = torch.ones(total)
                mask[flat.argsort(stable=True)[:count]] = 0
                parts = mask.split([named[n].numel() for n in WEIGHTS])
                masks = {n: part.view_as(named[n]) for n, part in zip(WEIGHTS, parts, strict=True)}
            with torch.no_grad():
                for name in WEIGHTS:
                    named[name] *= masks[name]
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not any(p._post_accumulate_grad_hooks for p in trained.parameters())


@pytest.mark.parametrize(
    "score", ["magnitude", "lamp", "gradient", "movement", "snip", "synflow", "wanda", "random"]
)
def test_nothing_comes_back_and_the_number_is_exact_with_every_score(
    score: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[dict[str, Tensor]] = []
    ctx, net = lab.context(data=lab.data(train=90)), lab.mlp()
    step = torch.optim.Adam.step

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        gone.append({name: net.get_parameter(name) == 0 for name in WEIGHTS})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    plugin(ADAM, score=score, calibration=40 if score in ("gradient", "snip", "wanda") else 512).compress(
        net, ctx
    )
    gone.append({name: net.get_parameter(name) == 0 for name in WEIGHTS})
    counts = [sum(int(mask.sum()) for mask in masks.values()) for masks in gone]
    assert counts[0] == 0 < counts[3] < counts[-1]
    assert counts[-1] == (819 + 128 if score == "wanda" else round(0.8 * 1184))
    for before, after in pairwise(gone):
        assert all(bool(after[name][mask].all()) for name, mask in before.items())


@pytest.mark.parametrize("score", ["magnitude", "movement", "random", "gradient"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_one_ends_with_the_same_tensors(score: str, epochs: int, lab: Lab) -> None:
    data, progress = lab.data(train=90), KilledAfter(epochs)
    made = plugin(ADAM, score=score, epochs=4, clip=0.5)
    whole = lab.context(data=data)
    expected = made.compress(lab.mlp(), whole)
    with pytest.raises(Killed):
        made.compress(lab.mlp(), lab.context(data=data, progress=progress))
    ctx = lab.context(data=data, progress=progress)
    resumed = made.compress(lab.mlp(), ctx)
    for ours, theirs in zip(resumed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert ctx.curves == whole.curves


@pytest.mark.parametrize("fresh", [True, False])
def test_what_a_builder_starts_at_zero_learns_and_what_was_pruned_does_not(fresh: bool, lab: Lab) -> None:
    """The first half of the training prunes nothing, the second a tenth."""
    net = lab.mlp()
    net.get_parameter("linear1.weight").data[:, 27] = 0
    made = plugin(ADAM, epochs=4, gradual={"start": 0.5, "every": 2}, sparsity=0.1)
    made.compress(net, lab.context(data=lab.data(train=90), fresh=fresh))
    assert bool(net.get_parameter("linear1.weight")[:, 27].any()) is fresh


def test_a_training_that_diverges_has_its_zeros_too(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=90))
    net = plugin({"name": "sgd", "lr": 1e30}, epochs=5).compress(lab.mlp(), ctx)
    assert "diverged" in ctx.notes
    assert zeros(net) == round(0.8 * 1184)


def test_zeros_of_an_earlier_pruning_stay_in_layers_that_are_left_alone(lab: Lab) -> None:
    net = lab.mlp()
    net.get_parameter("output.weight").data[:, ::2] = 0
    plugin(include=["linear1"]).compress(net, lab.context(data=lab.data(train=90)))
    assert int((net.get_parameter("output.weight") == 0).sum()) == 80
    assert int((net.get_parameter("linear1.weight") == 0).sum()) == round(0.8 * 1024)


def test_it_learns_from_a_teacher_meanwhile(lab: Lab) -> None:
    """All labels are wrong: what it knows is the teacher's."""
    long: dict[str, Any] = {"epochs": 20, "optimizer": ADAM}
    right = lab.context(data=lab.data())
    teacher = Magnitude(MagnitudeConfig.model_validate({"sparsity": 0.01, "finetune": long})).compress(
        lab.mlp(32), right
    )
    misled = lab.context({"train": teacher}, data=lab.data(labels="random"))
    options = {"sparsity": 0.8, "score": "lamp", "gradual": {"every": 5}, "finetune": long}
    config = MagnitudeConfig.model_validate({**options, "distill": {"teacher": "train", "hard": 0.0}})
    student = Magnitude(config).compress(lab.mlp(32, seed=5), misled)
    test = misled.data.test
    assert accuracy_and_loss(misled.compute.forward(student, test.x), test.y)[0] > 0.9
    assert Magnitude(config).work(1000, 1).forwards == 1000


def test_curves_begin_at_nothing_and_end_at_all() -> None:
    for name, curve in CURVES.items():
        assert curve(0.0) == pytest.approx(0, abs=0.007), name
        assert curve(1.0) == 1, name
