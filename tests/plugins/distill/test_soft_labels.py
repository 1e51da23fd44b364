from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab

from compressit.config import model_refs
from compressit.contract.context import StageContext
from compressit_plugins.distill.soft_labels import SoftLabels, SoftLabelsConfig
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.train.supervised import Supervised, SupervisedConfig


def test_the_student_learns_what_the_teacher_says_even_where_the_labels_say_otherwise(
    lab: Lab, device: str
) -> None:
    options: dict[str, Any] = {"epochs": 20, "optimizer": {"name": "adam", "lr": 0.01}}
    teacher = lab.mlp(32)
    Supervised(SupervisedConfig.model_validate(options)).train(
        teacher, lab.context(data=lab.data(device), device=device)
    )
    teacher.zero_grad()
    misled = lab.data(device, labels="random")
    ctx = lab.context({"train": teacher}, data=misled, narrow=lab.narrow(32), device=device)
    config = SoftLabelsConfig.model_validate({**options, "teacher": "train", "hard": 0.0})
    student = SoftLabels(config).compress(lab.mlp(32), ctx)
    assert student.get_parameter("linear1.weight").shape == (16, 64)
    assert accuracy_and_loss(ctx.compute.forward(student, misled.test.x), misled.test.y)[0] > 0.95
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_teacher_sees_every_image_once(lab: Lab) -> None:
    seen: list[int] = []
    teacher = lab.mlp()
    teacher.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    ctx = lab.context({"previous": teacher}, data=lab.data(), narrow=lab.narrow(16))
    plugin = SoftLabels(SoftLabelsConfig(epochs=3))
    plugin.compress(lab.mlp(), ctx)
    assert sum(seen) == 512 == plugin.work(512, 1).forwards


def test_a_killed_distillation_ends_with_the_same_tensors(lab: Lab) -> None:
    data, progress = lab.data(), KilledAfter(2)

    def context(**fields: Any) -> StageContext:
        return lab.context({"previous": lab.mlp(32)}, data=data, narrow=lab.narrow(32), **fields)

    plugin = SoftLabels(SoftLabelsConfig(epochs=4))
    expected = plugin.compress(lab.mlp(32), context())
    with pytest.raises(Killed):
        plugin.compress(lab.mlp(32), context(progress=progress))
    resumed = plugin.compress(lab.mlp(32), context(progress=progress))
    for ours, theirs in zip(resumed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_student_stops_early_and_keeps_its_best_epoch(lab: Lab) -> None:
    data = lab.data(labels="random", validation=0.25, train=256)
    ctx = lab.context({"previous": lab.mlp(32)}, data=data, narrow=lab.narrow(32))
    options = {"epochs": 60, "hard": 1.0, "patience": 3, "restore_best": True, "monitor": "loss"}
    config = SoftLabelsConfig.model_validate({**options, "optimizer": {"name": "adam", "lr": 0.01}})
    student = SoftLabels(config).compress(lab.mlp(32), ctx)
    losses = [value for _, value in ctx.curves["validation_loss"]]
    assert len(losses) == ctx.notes["stopped_early"] < 60
    assert losses.index(min(losses)) == ctx.notes["best_epoch"] - 1 == len(losses) - 4
    assert data.validation is not None
    found = accuracy_and_loss(ctx.compute.forward(student, data.validation), data.validation.y)
    assert found[1] == pytest.approx(min(losses), rel=1e-6)


def test_the_teacher_is_an_edge_of_the_recipe() -> None:
    assert list(model_refs(SoftLabelsConfig(teacher="train"))) == [(("teacher",), "train")]
