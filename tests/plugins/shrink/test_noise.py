from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from scipy import stats
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.config import dump, model_refs, parse
from compressit.contract.compute import Compute
from compressit.contract.context import StageContext
from compressit.contract.nets import copied
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.seeds import Streams
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.models.convnet import Convnet, ConvnetConfig
from compressit_plugins.models.mlp import Mlp, MlpConfig
from compressit_plugins.shrink.fresh import Fresh
from compressit_plugins.shrink.noise import NoiseConfig, NoiseShrinking
from compressit_plugins.shrink.noise_fit import entropy_bits, fit_to_noise, loss_of, targets
from compressit_plugins.shrink.noise_inputs import Noise, noise_generator, noise_source
from compressit_plugins.shrink.student import StudentConfig
from compressit_plugins.tasks.regression import Regression, RegressionConfig
from compressit_plugins.train.supervised import Supervised, SupervisedConfig

# Alok Singh, "Compressing neural networks to see if they learn" (2018): H <- ceil(0.8 H)
PUBLISHED = (512, 410, 328, 263, 211, 169, 136, 109, 88, 71, 57, 46, 37, 30, 24, 20, 16, 13, 11, 9, 8)

KINDS = ("uniform", "normal", "smooth", "gaussian", "pixel", "covariance", "spectrum")


def _config(**options: Any) -> NoiseConfig:
    small: dict[str, Any] = {"width": 0.5, "images": 64, "epochs": 3, "batch_size": 32}
    return NoiseConfig.model_validate({**small, **options})


def _logits(seed: int, count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs, taught = (4 * torch.randn(count, 5, generator=generator) for _ in range(2))
    return outputs, taught


def _watched(model: nn.Module) -> list[Tensor]:
    """The inputs that the model is given from now on."""
    seen: list[Tensor] = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach().clone()))
    return seen


@given(st.integers(0, 2**32), st.floats(0.5, 20))
def test_targets_are_the_class_the_probabilities_or_the_logits(seed: int, temperature: float) -> None:
    _, taught = _logits(seed)
    hard = targets(taught, _config(labels="hard"))
    assert hard.tolist() == taught.numpy().argmax(1).tolist()
    soft = targets(taught, _config(labels="soft", temperature=temperature))
    np.testing.assert_allclose(soft, softmax(taught.double().numpy() / temperature, axis=1), atol=1e-6)
    assert torch.equal(targets(taught, _config(labels="logits")), taught)


def test_a_diverged_teacher_gives_no_classes() -> None:
    taught = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    with pytest.raises(CompressitError, match="logits for 1 of 2 noise images are NaN"):
        targets(taught, _config(labels="hard"))


@pytest.mark.parametrize("labels", ["hard", "logits"])
def test_a_temperature_where_nothing_is_softened_is_refused(labels: str) -> None:
    with pytest.raises(ValidationError, match=rf"temperature\n.*no effect with `labels: {labels}`"):
        _config(labels=labels, temperature=2)
    plain = _config(labels=labels)
    assert parse(NoiseConfig, dump(plain)) == plain, "every default written out"


@given(st.integers(0, 2**32))
def test_hard_labels_are_fitted_by_cross_entropy_and_logits_by_their_mean_square(seed: int) -> None:
    outputs, taught = _logits(seed)
    classes = taught.argmax(1)
    entropy = -log_softmax(outputs.double().numpy(), axis=1)[np.arange(6), classes.numpy()].mean()
    assert float(loss_of(_config(labels="hard"))(outputs, classes)) == pytest.approx(entropy, rel=1e-4)
    square = ((outputs - taught).double().numpy() ** 2).mean()
    assert float(loss_of(_config(labels="logits"))(outputs, taught)) == pytest.approx(square, rel=1e-4)


@given(st.integers(0, 2**32), st.floats(0.5, 20))
def test_soft_labels_pull_as_the_divergence_at_that_temperature_does(seed: int, temperature: float) -> None:
    options = _config(labels="soft", temperature=temperature)
    outputs, taught = _logits(seed)
    ours, theirs = outputs.clone().requires_grad_(), outputs.double().requires_grad_()
    loss_of(options)(ours, targets(taught, options)).backward()
    student = F.log_softmax(theirs / temperature, 1)
    teacher = F.log_softmax(taught.double() / temperature, 1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    (divergence * temperature**2).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-5)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_entropy_is_scipys(classes: list[int]) -> None:
    counts = np.bincount(classes, minlength=7)
    ours = entropy_bits(torch.tensor(classes), 7)
    assert ours == pytest.approx(stats.entropy(counts, base=2), abs=1e-12)
    assert str(entropy_bits(torch.tensor(classes[:1] * 3), 7)) == "0.0", "of one class: not -0.0"


@pytest.mark.parametrize(("redraw", "draws"), [("epoch", 3), ("round", 1), ("never", 1)])
def test_the_student_is_given_every_image_that_the_teacher_labels_once(
    redraw: str, draws: int, lab: Lab, device: str
) -> None:
    teacher, student = lab.mlp(16).to(device), lab.mlp(8)
    asked, given_x = _watched(teacher), _watched(student)
    config = _config(redraw=redraw, track=False)
    fit_to_noise(student, teacher, lab.context(data=lab.data(device), device=device), config)
    assert {x.device.type for x in asked} == {device}
    assert [len(x) for x in asked] == [64] * draws
    assert len({tuple(x.flatten().tolist()) for x in asked}) == draws
    for epoch in range(3):
        shown = torch.cat(given_x[2 * epoch : 2 * epoch + 2]).flatten(1)
        drawn = asked[epoch if redraw == "epoch" else 0].flatten(1)
        assert sorted(shown.tolist()) == sorted(drawn.tolist())


@pytest.mark.parametrize(("redraw", "shared"), [("epoch", False), ("round", False), ("never", True)])
def test_rounds_share_their_noise_only_when_it_is_never_redrawn(redraw: str, shared: bool, lab: Lab) -> None:
    drawn = []
    for number in (1, 2):
        teacher = lab.mlp(16)
        asked = _watched(teacher)
        ctx = lab.context(data=lab.data(), streams=Streams(0, "blog", number), round=number)
        fit_to_noise(lab.mlp(8), teacher, ctx, _config(redraw=redraw, epochs=1, track=False))
        drawn.append(asked[0])
    assert torch.equal(*drawn) == shared


@pytest.mark.parametrize("noise", KINDS)
def test_twins_see_the_same_noise(noise: str, lab: Lab, device: str) -> None:
    seen = []
    for seed, labels in ((0, "given"), (1, "random")):
        teacher = lab.mlp(16, seed=seed).to(device)
        asked = _watched(teacher)
        ctx = lab.context(data=lab.data(device, labels=labels), device=device)
        fit_to_noise(lab.mlp(8), teacher, ctx, _config(noise=noise, track=False))
        seen.append(torch.stack(asked))
    assert torch.equal(*seen)


@pytest.mark.parametrize("declares", [True, False], ids=["with_width", "skeleton"])
def test_the_widths_are_the_published_ones(declares: bool, lab: Lab) -> None:
    def narrow(multiplier: float, times: int) -> nn.Module | None:
        config = MlpConfig(hidden=(512, 512))
        for _ in range(times):
            config = Mlp(config).with_width(multiplier)
        return Mlp(config).build(TensorSpec((1, 8, 8)), 10) if declares else None

    model, data = Mlp(MlpConfig(hidden=(512, 512))).build(TensorSpec((1, 8, 8)), 10), lab.data()
    for number in range(1, 21):
        ctx = lab.context(data=data, narrow=narrow, round=number, feed="original")
        student = Fresh(StudentConfig(width=0.8)).dry_run(model, ctx)
        width = PUBLISHED[number]
        shapes = [tuple(p.shape) for p in student.parameters() if p.ndim == 2]
        assert shapes == [(width, 64), (width, width), (10, width)]
        assert ctx.notes == {"requested": pytest.approx(0.8**number), "achieved": width / 512}


def test_a_chained_repeated_stage_narrows_what_it_is_given_once(lab: Lab) -> None:
    ctx = lab.context({"previous": lab.mlp(20)}, data=lab.data(), narrow=lab.narrow(20), round=3)
    student = NoiseShrinking(_config(width=0.8)).compress(lab.mlp(20), ctx)
    assert student.get_parameter("linear1.weight").shape == (16, 64)
    assert (ctx.notes["requested"], ctx.notes["achieved"]) == (0.8, 16 / 20)


def test_retention_is_logged_after_each_power_of_two_and_the_last_epoch(lab: Lab, device: str) -> None:
    ctx = lab.context(data=lab.data(device, labels="random"), device=device)
    student = fit_to_noise(lab.mlp(8), lab.mlp(16).to(device), ctx, _config(epochs=11))
    for name in ("train", "test"):
        seen = [step for step, _ in ctx.curves[f"retention_{name}"]]
        assert seen == [64.0 * epochs for epochs in (1, 2, 4, 8, 11)]
        split = getattr(ctx.data, name)
        accuracy = accuracy_and_loss(ctx.compute.forward(student, split.x), split.y)[0]
        assert ctx.curves[f"retention_{name}"][-1][1] == pytest.approx(accuracy)
    assert ctx.notes["images_seen"] == 11 * 64


def test_nothing_is_followed_when_that_is_not_wanted_and_the_student_is_the_same(lab: Lab) -> None:
    students = []
    for track in (True, False):
        ctx = lab.context(data=lab.data())
        students.append(fit_to_noise(lab.mlp(8), lab.mlp(16), ctx, _config(track=track)))
        assert ("retention_test" in ctx.curves) == track
    for one, two in zip(*(s.parameters() for s in students), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("noise", "statistics"),
    [
        (kind, "none" if kind in ("uniform", "normal") else "of the training inputs")
        for kind in KINDS
        if kind != "smooth"
    ],
)
def test_the_notes_say_what_the_noise_was_and_what_it_knew_of_the_data(
    noise: str, statistics: str, lab: Lab
) -> None:
    ctx = lab.context(data=lab.data())
    fit_to_noise(lab.mlp(8), lab.mlp(16), ctx, _config(noise=noise, labels="hard", redraw="round"))
    told = {"kind": noise, "labels": "hard", "redraw": "round", "images": 64, "statistics": statistics}
    assert ctx.notes["noise"] == told


def test_the_notes_of_smooth_noise_suffice_to_draw_it_again(lab: Lab) -> None:
    ctx = lab.context(data=lab.data())
    config = _config(noise="smooth", blur=[1, 3], contrast=[0.5, 2], epochs=1, track=False)
    teacher = lab.mlp(16)
    asked = _watched(teacher)
    fit_to_noise(lab.mlp(8), teacher, ctx, config)
    noted = json.loads(json.dumps(ctx.notes["noise"]))
    assert noted["statistics"] == "none"
    again = noise_source(Noise.noted(noted), ctx.data)
    assert torch.equal(again.draw(64, noise_generator(ctx.streams, "epoch", 0, "cpu")), asked[0])


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        ({"noise": "normal", "contrast": [0.2, 1]}, "contrast", "no effect with `noise: normal`"),
        ({"blur": [1]}, "blur", "no effect with `noise: uniform`"),
        ({"noise": "smooth", "contrast": [1, 0.5]}, "contrast", "from 1 to 0.5"),
        ({"noise": "smooth", "contrast": [0, 0]}, "contrast", "above 0"),
        ({"noise": "smooth", "blur": []}, "blur", "at least 1"),
        ({"teacher_norms": "batch", "images": 1}, "teacher_norms", "no variance"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _config(**options)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == where
    assert what in error["msg"]
    plain = _config(noise="smooth")
    assert parse(NoiseConfig, dump(plain)) == plain, "every default written out"


def test_of_a_convolutional_net_with_batch_norms_noise_teaches_more_by_the_batches_statistics(
    lab: Lab,
) -> None:
    adam = {"optimizer": {"name": "adam", "lr": 0.01}, "batch_size": 32}
    data = lab.data(noise=0.2)
    torch.manual_seed(0)
    teacher = Convnet(ConvnetConfig(channels=(16, 16))).build(TensorSpec((1, 8, 8)), 10)
    Supervised(SupervisedConfig.model_validate({**adam, "epochs": 6})).train(teacher, lab.context(data=data))
    reached: dict[str, float] = {}
    for norms, measured in (("running", "running"), ("batch", "data")):
        ctx = lab.context({"train": teacher}, data=data)
        options = {**adam, "noise": "normal", "images": 512, "epochs": 10, "teacher": "train"}
        config = _config(**options, teacher_norms=norms, student_norms=measured)
        student = NoiseShrinking(config).compress(copied(teacher), ctx)
        assert sum(p.numel() for p in student.parameters()) < 0.4 * sum(
            p.numel() for p in teacher.parameters()
        )
        reached[norms] = accuracy_and_loss(ctx.compute.forward(student, data.test.x), data.test.y)[0]
        assert ctx.curves["retention_test"][-1] == (5120, pytest.approx(reached[norms]))
        assert ctx.notes["noise"].get("teacher_norms", "running") == norms
    assert reached["batch"] > reached["running"] + 0.15, reached


def test_a_task_without_classes_is_tracked_by_what_it_watches(lab: Lab) -> None:
    posed = TaskSpec("task.regression", 2)
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sources = Sources((x[:40], x[:40, 0, 0, :2]), (x[40:], x[40:, 0, 0, :2]))
    data = replace(prepare(sources, DataConfig(), 2, (), labelled=False), task=posed)
    ctx = lab.context(data=data, task=Regression(RegressionConfig(), posed))
    spec = TensorSpec((1, 8, 8))
    teacher, student = (Mlp(MlpConfig(hidden=(width,))).build(spec, 2) for width in (16, 8))
    fit_to_noise(student, teacher, ctx, _config(noise="smooth", optimizer={"name": "adam", "lr": 0.01}))
    scores = ctx.task.scores(ctx.compute.forward(student, data.test), data.test.y)
    assert ctx.curves["retention_test"][-1] == (192, pytest.approx(scores[ctx.task.watch]))


@pytest.mark.parametrize("labels", ["hard", "soft", "logits"])
def test_what_the_teacher_knows_reaches_the_student_through_noise_alone(labels: str, lab: Lab) -> None:
    options: dict[str, Any] = {"epochs": 20, "optimizer": {"name": "adam", "lr": 0.01}}
    teacher, data = lab.mlp(32), lab.data(noise=0.2)
    Supervised(SupervisedConfig.model_validate(options)).train(teacher, lab.context(data=data))
    ctx = lab.context({"train": teacher}, data=data, narrow=lab.narrow(32))
    config = _config(
        **options, labels=labels, noise="covariance", images=2000, teacher="train", batch_size=64
    )
    student = NoiseShrinking(config).compress(lab.mlp(32, seed=3), ctx)
    assert student.get_parameter("linear1.weight").shape == (16, 64)
    x, y = data.test.tensors()
    assert accuracy_and_loss(ctx.compute.forward(teacher, x), y)[0] > 0.95
    assert accuracy_and_loss(ctx.compute.forward(student, x), y)[0] > 0.9


@pytest.mark.parametrize("redraw", ["epoch", "round", "never"])
def test_a_killed_repeated_stage_round_ends_with_the_same_tensors_and_curves(redraw: str, lab: Lab) -> None:
    data, progress, config = lab.data(), KilledAfter(2), _config(redraw=redraw, epochs=4)

    def run(**fields: Any) -> tuple[nn.Module, StageContext]:
        ctx = lab.context(data=data, **fields)
        return fit_to_noise(lab.mlp(8), lab.mlp(16), ctx, config), ctx

    expected, whole = run()
    with pytest.raises(Killed):
        run(progress=progress)
    resumed, ctx = run(progress=progress)
    for ours, theirs in zip(resumed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert ctx.curves == whole.curves
    assert ctx.notes == whole.notes


@pytest.mark.parametrize("labels", ["hard", "soft", "logits"])
def test_it_works_in_bf16(labels: str, lab: Lab) -> None:
    ctx = lab.context(data=lab.data(), compute=Compute("cpu", "bf16"))
    student = fit_to_noise(lab.mlp(8), lab.mlp(16), ctx, _config(labels=labels))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in student.parameters())


def test_the_teacher_is_an_edge_of_the_recipe_and_by_default_the_model_given() -> None:
    assert list(model_refs(_config(teacher="train"))) == [(("teacher",), "train")]
    assert list(model_refs(_config())) == [(("teacher",), "previous")]


def test_the_estimate_follows_the_rounds() -> None:
    work = NoiseShrinking(_config(images=100)).work(512, 3)
    assert (work.steps, work.batch_size, work.width) == (3 * 4, 32, 0.125)


@pytest.mark.parametrize(
    ("noise", "redraw", "passes"),
    [("covariance", "epoch", 600), ("covariance", "round", 200), ("uniform", "epoch", 390), ("pixel", "never", 130),
     ("smooth", "round", 160), ("spectrum", "round", 200), ("normal", "round", 130)],
)  # fmt: skip
def test_the_estimate_counts_the_drawing_and_the_teachers_labels(
    noise: str, redraw: str, passes: int
) -> None:
    work = NoiseShrinking(_config(images=100, noise=noise, redraw=redraw)).work(512, 1)
    assert work.forwards == passes, "a draw with a full covariance takes as long as the teacher"


def test_data_without_test_examples_are_tracked_on_the_training_alone(lab: Lab) -> None:
    ctx = lab.context(data=replace(lab.data(), test=None))
    fit_to_noise(lab.mlp(8), lab.mlp(16), ctx, _config())
    assert "retention_train" in ctx.curves
    assert "retention_test" not in ctx.curves
