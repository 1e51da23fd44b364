from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit.errors import CompressitError
from compressit_plugins.shrink.noise import NoiseShrinking
from compressit_plugins.shrink.noise_fit import fit_to_noise
from compressit_plugins.shrink.noise_head import take_over_head
from compressit_plugins.shrink.noise_options import NoiseConfig

SMALL: dict[str, Any] = {"noise": "smooth", "images": 64, "epochs": 1, "batch_size": 32, "head": "teacher"}


def test_the_students_output_layer_is_that_of_the_teachers_units_with_the_largest_weights(
    lab: Lab, device: str
) -> None:
    teacher, student = lab.mlp(16).to(device), lab.mlp(3, seed=1)
    take_over_head(student, teacher, lab.context(data=lab.data(device), device=device))
    weights = teacher.get_parameter("output.weight").detach().cpu()
    kept = sorted(range(16), key=lambda unit: -float(weights[:, unit].square().sum()))[:3]
    assert torch.equal(student.get_parameter("output.weight").cpu(), weights[:, sorted(kept)])
    assert torch.equal(student.get_parameter("output.bias").cpu(), teacher.get_parameter("output.bias").cpu())


def test_it_is_only_where_the_training_starts(lab: Lab) -> None:
    teacher, heads = lab.mlp(16), {}
    for head in ("fresh", "teacher"):
        config = NoiseConfig.model_validate({**SMALL, "head": head, "optimizer": {"lr": 1e-9}})
        student = fit_to_noise(lab.mlp(8, seed=1), teacher, lab.context(data=lab.data()), config)
        heads[head] = student.get_parameter("output.bias")
    torch.testing.assert_close(heads["teacher"], teacher.get_parameter("output.bias"))
    assert not torch.allclose(heads["fresh"], heads["teacher"])


def test_a_convolution_that_answers_is_taken_over_too(lab: Lab) -> None:
    nets = []
    for width in (6, 2):
        nets.append(
            nn.Sequential(
                nn.Conv2d(1, width, 3),
                nn.ReLU(),
                nn.Conv2d(width, 10, 1),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
        )
    teacher, student = nets
    take_over_head(student, teacher, lab.context(data=lab.data()))
    theirs, ours = teacher.get_parameter("2.weight"), student.get_parameter("2.weight")
    kept = theirs.flatten(1).norm(dim=0).argsort()[-2:].sort().values
    assert torch.equal(ours, theirs[:, kept])


@pytest.mark.parametrize(
    ("teacher", "what"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10)),
            "8 inputs, and the teacher's 4",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12)), "does not fit"),
        (
            nn.Sequential(
                nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            "does not fit",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(teacher: nn.Module, what: str, lab: Lab) -> None:
    with pytest.raises(CompressitError, match=what) as caught:
        take_over_head(lab.mlp(8), teacher, lab.context(data=lab.data()))
    assert "head: fresh" in str(caught.value.hint)


def test_that_is_known_before_anything_is_trained_where_the_teacher_is_the_given_model(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(), narrow=lab.narrow(16))
    small = NoiseShrinking(NoiseConfig.model_validate({**SMALL, "width": 0.5}))
    assert small.dry_run(lab.mlp(16), ctx).get_parameter("linear1.weight").shape == (8, 64)
    with pytest.raises(CompressitError, match="not enough"):
        small.dry_run(lab.mlp(4), ctx)
