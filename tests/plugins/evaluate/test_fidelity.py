from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from scipy import stats
from torch import Tensor, nn

from compressit.contract.classification import usual
from compressit.contract.context import Judged
from compressit.seeds import Streams
from compressit_plugins.evaluate.agreement import noise_fidelity
from compressit_plugins.evaluate.fidelity import Fidelity, FidelityConfig
from compressit_plugins.shrink.noise import NoiseConfig, NoiseShrinking
from compressit_plugins.shrink.noise_inputs import Noise, noise_generator, noise_source

STREAMS = Streams(5, "blog", 2)
REAL = {"agreement", "train_agreement"}
NOISY = {"fit_agreement", "noise_agreement", "noise_entropy_bits", "noise_majority"}


class Threshold(nn.Module):
    """Class 1 where the first pixel is above a level, else class 0."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(first), first - self.level], 1)


class Memory(nn.Module):
    """The stored class of stored inputs, and class 0 for every other."""

    def __init__(self, x: Tensor, classes: Sequence[int], count: int) -> None:
        super().__init__()
        self.known = dict(zip(map(_key, x), classes, strict=True))
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        classes = torch.tensor([self.known.get(_key(row), 0) for row in x])
        return nn.functional.one_hot(classes, self.count).float()


def _key(row: Tensor) -> bytes:
    return row.numpy().tobytes()


def _judged(notes: dict[str, Any], reference: str | None = "train", streams: Streams = STREAMS) -> Judged:
    return Judged("blog", "shrink.noise", {}, notes, streams, reference)


def _noted(kind: str = "uniform", redraw: str = "epoch", images: int = 50, epochs: int = 3) -> dict[str, Any]:
    return {"noise": {"kind": kind, "redraw": redraw, "images": images}, "epochs": epochs}


def test_agreement_counts_equal_classes() -> None:
    agreement = usual().agreement
    a = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    b = torch.tensor([[0.0, 9.0], [1.0, 2.0], [2.0, 7.0], [5.0, 4.0]])
    assert agreement(a, b) == 0.75
    assert agreement(a, a) == 1.0
    nan = torch.full((4, 2), float("nan"))
    assert agreement(nan, nan) == agreement(a, nan) == 0.0
    half = torch.where(torch.tensor([[True], [True], [False], [False]]), a, nan)
    assert agreement(half, half) == agreement(a, half) == 0.5


def test_every_number_is_what_a_hand_count_gives(lab: Lab, device: str) -> None:
    data = lab.data(device)
    student, teacher = Threshold(0.4), Threshold(0.7)
    ctx = lab.context({"train": teacher}, data=data, judged=_judged(_noted()), device=device)
    measured = Fidelity(FidelityConfig(draws=3000)).evaluate(student, ctx)

    def share(x: Tensor) -> float:
        first = x.flatten(1)[:, 0].cpu().numpy()
        return float(np.mean((first > 0.4) == (first > 0.7)))

    assert set(measured) == REAL | NOISY == set(Fidelity.metrics)
    assert measured["agreement"] == pytest.approx(share(data.test.x))
    assert measured["train_agreement"] == pytest.approx(share(data.train.x))
    source = noise_source(Noise("uniform"), data)
    last = source.draw(50, noise_generator(STREAMS, "epoch", 2, device))
    assert measured["fit_agreement"] == pytest.approx(share(last))
    # of U[0, 1] 30 % lie between the levels, and 30 % above the teacher's: within five standard errors
    error = 5 * (0.21 / 3000) ** 0.5
    assert measured["noise_agreement"] == pytest.approx(0.7, abs=error)
    assert measured["noise_majority"] == pytest.approx(0.7, abs=error)
    of_the_labels = stats.entropy([measured["noise_majority"], 1 - measured["noise_majority"]], base=2)
    assert measured["noise_entropy_bits"] == pytest.approx(of_the_labels)


@pytest.mark.parametrize("noise", ["uniform", "covariance"])
@pytest.mark.parametrize("redraw", ["epoch", "round", "never"])
def test_a_student_that_memorised_its_last_noise_agrees_there_and_nowhere_else(
    noise: str, redraw: str, lab: Lab
) -> None:
    teacher = lab.mlp(16)
    shown: list[Tensor] = []
    hook = teacher.register_forward_hook(lambda module, inputs, output: shown.append(inputs[0].clone()))
    data = lab.data()
    ctx = lab.context({"train": teacher}, data=data, narrow=lab.narrow(16), streams=STREAMS, round=2)
    config = NoiseConfig.model_validate(
        {"width": 0.5, "noise": noise, "redraw": redraw, "images": 60, "epochs": 3, "teacher": "train",
         "track": False}
    )  # fmt: skip
    NoiseShrinking(config).compress(lab.mlp(16), ctx)
    hook.remove()
    classes = (teacher(shown[-1]).argmax(1) + 1).tolist()  # never 0, which a Memory says of what it never saw
    shifted = nn.Sequential(teacher, _Shift())

    measured = [
        noise_fidelity(Memory(x, classes, 11), judge, _judged(ctx.notes), 100)
        for x in (shown[-1], shown[0])
        for judge in [lab.context({"train": shifted}, data=data)]
    ]
    assert measured[0]["fit_agreement"] == 1.0
    assert measured[0]["noise_agreement"] == 0.0, "unseen noise must be unseen"
    assert (measured[1]["fit_agreement"] == 0.0) == (redraw == "epoch"), "the first epoch's is not the last's"


class _Shift(nn.Module):
    """Class c becomes class c + 1."""

    def forward(self, logits: Tensor) -> Tensor:
        return nn.functional.pad(logits, (1, 0), value=float("-inf"))


def test_a_teacher_that_says_one_thing_has_no_entropy(lab: Lab) -> None:
    ctx = lab.context({"train": Threshold(2.0)}, data=lab.data(), judged=_judged(_noted()))
    measured = Fidelity(FidelityConfig(draws=100)).evaluate(Threshold(0.5), ctx)
    assert measured["noise_entropy_bits"] == 0.0
    assert measured["noise_majority"] == 1.0


def test_a_diverged_teacher_is_no_score_at_all(lab: Lab) -> None:
    """Models that answer NaN agree in nothing, and NaN is no class whose share could be measured."""
    diverged = Threshold(float("nan"))
    ctx = lab.context({"train": diverged}, data=lab.data(), judged=_judged(_noted()))
    measured = Fidelity(FidelityConfig(draws=100)).evaluate(Threshold(float("nan")), ctx)
    assert set(measured.values()) == {0.0}
    assert set(measured) == {"agreement", "train_agreement", "fit_agreement", "noise_agreement"}


def test_unseen_noise_is_the_same_for_both_twins_and_other_for_other_rounds(lab: Lab) -> None:
    data = lab.data()

    def measured(streams: Streams) -> float:
        ctx = lab.context({"train": Threshold(0.7)}, data=data)
        return noise_fidelity(Threshold(0.4), ctx, _judged(_noted(), streams=streams), 2000)["noise_majority"]

    assert measured(Streams(5, "blog", 2)) == measured(Streams(5, "blog", 2))
    assert len({measured(Streams(5, "blog", number)) for number in (1, 2, 3)}) > 1


def test_without_a_teacher_there_is_nothing_and_without_noise_only_the_real_inputs(lab: Lab) -> None:
    plugin = Fidelity(FidelityConfig(draws=100))
    models = {"train": Threshold(0.7)}
    assert plugin.evaluate(Threshold(0.4), lab.context(models, data=lab.data())) == {}
    alone = lab.context(models, data=lab.data(), judged=_judged(_noted(), reference=None))
    assert plugin.evaluate(Threshold(0.4), alone) == {}
    pruned = lab.context(models, data=lab.data(), judged=_judged({"achieved": 0.5}))
    assert set(plugin.evaluate(Threshold(0.4), pruned)) == REAL


def test_both_models_are_left_as_they_were_found(lab: Lab) -> None:
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)) for _ in range(2)
    ]
    for model in models:
        model.eval()
        model[0].train()  # a layer in another mode than the rest
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    ctx = lab.context({"train": models[1]}, data=lab.data(), judged=_judged(_noted()))
    first, again = (Fidelity(FidelityConfig(draws=100)).evaluate(models[0], ctx) for _ in range(2))
    assert first == again
    assert [m.training for m in models[0].modules()] == [False, True, False, False, False]
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(p.grad is not None for p in model.parameters())


def test_data_without_test_examples_have_the_agreement_on_the_training_alone(lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp(16)}, data=replace(lab.data(), test=None), judged=_judged({}))
    assert Fidelity(FidelityConfig()).evaluate(lab.mlp(16), ctx).keys() == {"train_agreement"}
