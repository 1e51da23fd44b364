from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit.contract.context import Judged
from compressit.errors import CompressitError
from compressit.seeds import Streams
from compressit_plugins.evaluate.agreement import noise_fidelity
from compressit_plugins.shrink.noise import NoiseShrinking
from compressit_plugins.shrink.noise_fit import fit_to_noise
from compressit_plugins.shrink.noise_norms import labelling
from compressit_plugins.shrink.noise_options import NoiseConfig


def _config(**options: Any) -> NoiseConfig:
    small: dict[str, Any] = {"noise": "smooth", "images": 64, "epochs": 2, "batch_size": 32, "track": False}
    return NoiseConfig.model_validate({**small, **options})


def _normed(width: int, seed: int = 0) -> nn.Sequential:
    """With running statistics of other data than any noise."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)
    )
    norm: Any = net[2]
    norm.running_mean.uniform_(-2, 2)
    norm.running_var.uniform_(0.5, 4)
    return net


def test_a_teacher_with_batch_statistics_labels_as_torchs_train_mode_does_and_keeps_its_own(lab: Lab) -> None:
    teacher = _normed(16).eval()
    before = copy.deepcopy(teacher.state_dict())
    x = torch.randn(50, 1, 8, 8)
    ctx = lab.context(data=lab.data())
    ours = ctx.compute.forward(labelling(teacher, "batch"), x)
    torch.testing.assert_close(ours, copy.deepcopy(teacher).train()(x))
    assert not torch.allclose(ours, teacher(x))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert labelling(teacher, "running") is teacher


def test_a_student_of_batch_statistics_learns_those_labels(lab: Lab) -> None:
    teacher = _normed(16).eval()
    options = {"epochs": 30, "images": 512, "optimizer": {"name": "adam", "lr": 0.01}}
    errors: dict[tuple[str, str], float] = {}
    for trained in ("running", "batch"):
        student = fit_to_noise(
            _normed(16, 1), teacher, lab.context(data=lab.data()), _config(teacher_norms=trained, **options)
        )
        x = torch.randn(512, 1, 8, 8) * 0.5
        for asked in ("running", "batch"):
            wanted = lab.context(data=lab.data()).compute.forward(labelling(teacher, asked), x)
            errors[trained, asked] = float((student(x) - wanted).square().mean() / wanted.var())
    assert errors["batch", "batch"] < errors["batch", "running"]
    assert errors["running", "running"] < errors["running", "batch"]


@pytest.mark.parametrize("where", ["noise", "data"])
def test_the_students_statistics_are_measured_again_where_it_says(where: str, lab: Lab) -> None:
    data = lab.data()
    ctx = lab.context(data=data)
    student: Any = fit_to_noise(
        _normed(8, 1), _normed(16).eval(), ctx, _config(student_norms=where, images=4096)
    )
    x = data.train.x if where == "data" else fit_noise(lab)
    inside = student[1](student[0](x))
    # means of batches of 32, all of one size but data's last
    torch.testing.assert_close(student[2].running_mean, inside.mean(0), atol=0.05, rtol=0.05)
    torch.testing.assert_close(student[2].running_var, inside.var(0), atol=0.05, rtol=0.1)
    assert ctx.notes["recalibrated"] >= len(x) // 32
    other = fit_noise(lab) if where == "data" else data.train.x
    assert (student[2].running_mean - student[1](student[0](other)).mean(0)).abs().max() > 0.1


def fit_noise(lab: Lab) -> torch.Tensor:
    """The noise of the last epoch of `_config` with 4096 images."""
    seen: list[torch.Tensor] = []
    teacher = _normed(16).eval()
    teacher.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
    fit_to_noise(_normed(8, 1), teacher, lab.context(data=lab.data()), _config(images=4096))
    return torch.cat(seen[-2:])  # 4096 images are labelled in two parts


def test_statistics_measured_again_change_nothing_else_and_are_those_that_are_followed(lab: Lab) -> None:
    nets: dict[str, nn.Module] = {}
    for norms in ("running", "data"):
        ctx = lab.context(data=lab.data())
        nets[norms] = fit_to_noise(
            _normed(8, 1), _normed(16).eval(), ctx, _config(student_norms=norms, track=True)
        )
        scores = ctx.task.scores(ctx.compute.forward(nets[norms], ctx.data.test), ctx.data.test.y)
        assert ctx.curves["retention_test"][-1][1] == pytest.approx(scores["accuracy"])
    for one, two in zip(*(net.parameters() for net in nets.values()), strict=True):
        assert torch.equal(one, two)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


def test_a_residual_net_is_shrunk_with_its_head_and_the_noises_statistics(lab: Lab) -> None:
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    teacher = nn.Sequential(
        *stem, _Residual(12), _Residual(12), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10)
    )
    before = copy.deepcopy(teacher.state_dict())
    ctx = lab.context({"train": teacher}, data=lab.data())
    config = _config(
        teacher="train", teacher_norms="batch", student_norms="data", head="teacher", images=256, epochs=6, track=True,
        optimizer={"name": "adam", "lr": 0.01},
    )  # fmt: skip
    student = NoiseShrinking(config).compress(copy.deepcopy(teacher), ctx)
    assert student.get_parameter("3.conv.weight").shape == (6, 6, 3, 3)
    assert student.get_parameter("7.weight").shape == (10, 24)
    assert ctx.curves["loss"][-1][1] < 0.6 * ctx.curves["loss"][0][1]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert [seen for seen, _ in ctx.curves["retention_train"]] == [256, 512, 1024, 1536]


@pytest.mark.parametrize("options", [{"teacher_norms": "batch"}, {"student_norms": "noise"}])
def test_nets_without_batch_norms_are_told_so_before_anything_is_trained(
    options: dict[str, str], lab: Lab
) -> None:
    ctx = lab.context(data=lab.data(), narrow=lab.narrow(16))
    with pytest.raises(CompressitError, match=rf"{next(iter(options))}: .*has no effect"):
        NoiseShrinking(_config(**options)).dry_run(lab.mlp(16), ctx)


def test_agreement_on_noise_is_with_the_teacher_as_it_labelled(lab: Lab) -> None:
    teacher = _normed(16).eval()
    found = {}
    for norms in ("running", "batch"):
        ctx = lab.context({"teach": teacher}, data=lab.data())
        fit_to_noise(_normed(8), teacher, ctx, _config(teacher_norms=norms))
        judged = Judged("noise", "shrink.noise", {}, ctx.notes, Streams(0, "noise"), "teach")
        found[norms] = noise_fidelity(labelling(teacher, "batch"), ctx, judged, 500)["noise_agreement"]
    assert found["batch"] == 1
    assert found["running"] < 1
