from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.config import dump, model_refs, parse
from compressit.contract.classification import Classification, ClassificationConfig
from compressit.contract.context import StageContext
from compressit.datasets.splits import order
from compressit.errors import CompressitError
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.train.distill import Distill, DistillConfig
from compressit_plugins.train.supervised import Supervised, SupervisedConfig

MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


def options(**values: Any) -> DistillConfig:
    return DistillConfig.model_validate({"teacher": "train", "batch_size": 64, **values})


def test_it_takes_the_steps_of_a_hand_written_loop(lab: Lab, device: str) -> None:
    teacher = lab.mlp(32, seed=1).to(device).eval()
    task = Classification(ClassificationConfig(label_smoothing=0.1))
    ctx = lab.context({"train": teacher}, data=lab.data(device, train=150), device=device, task=task)
    config = options(epochs=2, hard=0.3, temperature=2.0, optimizer=MOMENTUM)
    trained = Distill(config).train(lab.mlp(), ctx)

    model = lab.mlp().to(device)
    biases = {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1]}, biases]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)
    x, y = ctx.data.train.tensors()
    for epoch in range(2):
        for index in order(150, ctx.streams, epoch).split(64):
            outputs, wanted = model(x[index]), (teacher(x[index]) / 2).softmax(1).detach()
            soft = F.kl_div(F.log_softmax(outputs / 2, 1), wanted, reduction="batchmean")
            truth = F.cross_entropy(outputs, y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            (0.7 * 4 * soft + 0.3 * truth).backward()
            optimizer.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not trained.training
    work = Distill(config).work(150)
    assert work.steps == len(ctx.arrays["loss"]) == 6
    assert work.forwards == 150


@pytest.mark.parametrize("loss", ["kl", "logits", "dkd", "dist"])
def test_a_pruned_net_learns_what_its_teacher_knows_though_all_labels_are_wrong(
    loss: str, lab: Lab, device: str
) -> None:
    fitted: dict[str, Any] = {"epochs": 20, "optimizer": {"name": "adam", "lr": 0.01}}
    teacher = lab.mlp(32)
    right = lab.context(data=lab.data(device), device=device)
    Supervised(SupervisedConfig.model_validate(fitted)).train(teacher, right)
    misled = lab.context({"train": teacher}, data=lab.data(device, labels="random"), device=device)
    student = lab.mlp(32, seed=5).to(device)
    masks = prune_smallest(student, 0.7)
    Distill(options(hard=0.0, loss=loss, **fitted)).train(student, misled)
    test = misled.data.test
    assert test is not None
    assert accuracy_and_loss(misled.compute.forward(student, test.x), test.y)[0] > 0.95
    for name, mask in masks.items():
        assert torch.equal(student.get_parameter(name) == 0, mask)
    assert misled.notes["zeros_kept"] == round(0.7 * (64 * 32 + 320))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_with_the_labels_alone_it_is_supervised_training(lab: Lab) -> None:
    same: dict[str, Any] = {"epochs": 4, "batch_size": 64, "patience": 2}
    given: dict[str, Any] = {
        "data": lab.data(validation=0.25),
        "task": Classification(ClassificationConfig(label_smoothing=0.1)),
    }
    ours, theirs = lab.context({"train": lab.mlp(seed=3)}, **given), lab.context(**given)
    distilled = Distill(options(hard=1, **same)).train(lab.mlp(), ours)
    supervised = Supervised(SupervisedConfig.model_validate(same)).train(lab.mlp(), theirs)
    for one, two in zip(distilled.parameters(), supervised.parameters(), strict=True):
        assert torch.equal(one, two)
    assert (ours.notes, ours.curves) == (theirs.notes, theirs.curves)


def test_a_student_that_is_its_teacher_stays_where_it_is(lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp().eval()}, data=lab.data())
    trained = Distill(options(hard=0.0, epochs=2, optimizer={"lr": 1.0})).train(lab.mlp(), ctx)
    for one, two in zip(trained.parameters(), lab.mlp().parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_killed_run_ends_with_the_tensors_of_one_never_killed(epochs: int, lab: Lab, device: str) -> None:
    data = lab.data(device, labels="random", validation=0.25, train=256)
    teacher = lab.mlp(32, seed=1)
    plugin = Distill(options(epochs=8, hard=0.5, restore_best=True, patience=5, optimizer=MOMENTUM))

    def run(**fields: Any) -> tuple[nn.Module, StageContext]:
        ctx = lab.context({"train": teacher}, data=data, device=device, **fields)
        student = lab.mlp(32)
        prune_smallest(student, 0.6)
        return plugin.train(student, ctx), ctx

    expected, whole = run()
    progress = KilledAfter(epochs)
    with pytest.raises(Killed):
        run(progress=progress)
    resumed, ctx = run(progress=progress)
    for name, value in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert (ctx.curves, ctx.notes) == (whole.curves, whole.notes)
    assert ctx.notes["zeros_kept"] == round(0.6 * (64 * 32 + 320))


def test_the_teacher_sees_repeating_images_once_and_is_not_changed(lab: Lab) -> None:
    seen: list[int] = []
    teacher = lab.mlp()
    teacher.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    Distill(options(epochs=3)).train(lab.mlp(seed=2), lab.context({"train": teacher}, data=lab.data()))
    assert sum(seen) == 512
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_teacher_and_student_see_the_same_augmented_images(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where inputs do not repeat, the teacher answers each batch as it comes."""
    told: list[Tensor] = []
    learned: list[Tensor] = []
    teacher, student = lab.mlp(), lab.mlp(seed=2)
    teacher.register_forward_pre_hook(lambda module, inputs: told.append(inputs[0].clone()))
    student.register_forward_pre_hook(lambda module, inputs: learned.append(inputs[0].clone()))
    ctx = lab.context({"train": teacher}, data=lab.data(train=128))
    monkeypatch.setattr(type(ctx.data.train), "repeats", False)
    Distill(options(epochs=2)).train(student, ctx)
    assert len(told) == len(learned) == 4
    assert all(torch.equal(one, two) for one, two in zip(told, learned, strict=True))


def test_a_teacher_of_other_classes_is_refused(lab: Lab) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(CompressitError, match="must answer with the same classes"):
        Distill(options()).train(lab.mlp(), lab.context({"train": teacher}, data=lab.data()))


def test_selecting_without_a_validation_split_is_refused_with_help(lab: Lab) -> None:
    assert options(patience=3, restore_best=True).needs_validation() == ("patience", "restore_best")
    with pytest.raises(CompressitError, match=r"validation split(.|\n)*validation: 0\.1"):
        Distill(options(patience=3)).train(lab.mlp(), lab.context({"train": lab.mlp()}, data=lab.data()))


def test_the_teacher_has_no_default_and_is_an_edge_of_the_recipe() -> None:
    """`previous` would be the student itself."""
    with pytest.raises(ValidationError, match="teacher"):
        DistillConfig.model_validate({})
    assert list(model_refs(options())) == [(("teacher",), "train")]


def test_an_option_without_effect_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match=r"monitor\n.*has no effect"):
        options(monitor="loss")
    assert parse(DistillConfig, dump(options(hard=0))) == options(hard=0)
