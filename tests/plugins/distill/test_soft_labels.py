from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from scipy.special import log_softmax

from compressit.config import model_refs
from compressit.contract.context import StageContext
from compressit_plugins.distill.loss import soft_label_loss
from compressit_plugins.distill.soft_labels import SoftLabels, SoftLabelsConfig
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.train.supervised import Supervised, SupervisedConfig


@given(st.floats(0.5, 50), st.floats(0, 1), st.integers(0, 2**32))
def test_the_loss_is_hintons(temperature: float, alpha: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, taught = (torch.randn(6, 5, generator=generator) * 4 for _ in range(2))
    labels = torch.randint(5, (6,), generator=generator)
    student, teacher = (log_softmax(z.double().numpy() / temperature, axis=1) for z in (outputs, taught))
    divergence = (np.exp(teacher) * (teacher - student)).sum(1).mean()
    hard = -log_softmax(outputs.double().numpy(), axis=1)[np.arange(6), labels.numpy()].mean()
    expected = alpha * temperature**2 * divergence + (1 - alpha) * hard
    ours = float(soft_label_loss(outputs, labels, taught, temperature, alpha))
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_at_a_high_temperature_it_matches_centred_logits() -> None:
    # Hinton, Vinyals & Dean 2015, section 2.1: the gradient tends to (z - v) / classes for zero-mean logits.
    generator = torch.Generator().manual_seed(0)
    outputs, taught = (torch.randn(1, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    outputs, taught = outputs - outputs.mean(), taught - taught.mean()
    outputs = outputs.float().requires_grad_()
    soft_label_loss(outputs, torch.tensor([0]), taught.float(), 500.0, 1.0).backward()
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad.double(), (outputs.detach() - taught) / 10, atol=3e-3, rtol=0)


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
    config = SoftLabelsConfig.model_validate({**options, "teacher": "train", "alpha": 1.0})
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


def test_the_teacher_is_an_edge_of_the_recipe() -> None:
    assert list(model_refs(SoftLabelsConfig(teacher="train"))) == [(("teacher",), "train")]


def test_a_temperature_without_soft_labels_is_a_mistake() -> None:
    """By the closed form: at alpha 0 the loss is cross-entropy, whatever the temperature."""
    outputs, taught, labels = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6) % 5
    hot, cold = (soft_label_loss(outputs, labels, taught, t, 0.0) for t in (100.0, 0.5))
    assert torch.equal(hot, cold)
    with pytest.raises(ValidationError, match="has no effect with `alpha: 0`"):
        SoftLabelsConfig(temperature=2, alpha=0)
    SoftLabelsConfig(temperature=2, alpha=0.1)
    assert SoftLabelsConfig(temperature=4, alpha=0).alpha == 0, "written out, a default is no mistake"
