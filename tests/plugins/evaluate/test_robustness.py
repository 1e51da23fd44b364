from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn

import compressit
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.running import rng
from compressit_plugins.evaluate.robustness import Robustness, RobustnessConfig

EDGE = 0.4


class Above(nn.Module):
    """Class 1 where the first value is above a level, else 0."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0] - self.level
        return torch.stack([-first, first], 1)


class Seen(nn.Module):
    """Keeps what it is given; answers class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.given.append(x.clone())
        return torch.eye(2)[torch.zeros(len(x), dtype=torch.long)]


def _data(x: Tensor, y: Tensor | None = None, spec: TensorSpec | None = None, **options: Any) -> Data:
    labels = torch.zeros(len(x), dtype=torch.long) if y is None else y
    sources = Sources((x, labels), (x, labels))
    return prepare(sources, DataConfig.model_validate(options), 2, ("a", "b"), inputs=spec)


def _measured(lab: Lab, model: nn.Module, data: Data, seed: int = 0, **options: Any) -> Mapping[str, float]:
    ctx = lab.context(data=data, streams=rng.judging(seed, "eval.robustness"))
    return Robustness(RobustnessConfig(**options)).evaluate(model, ctx)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_threshold_under_gaussian_noise_is_as_often_right_as_the_normal_distribution_says(
    lab: Lab, scaled: bool
) -> None:
    """All examples are 0.1 above the edge. The deviation is that of pixels, also where inputs are scaled."""
    x = torch.full((20_000, 1, 1, 2), EDGE + 0.1)
    mean, std = 0.2, 0.25
    data = _data(x, torch.ones(20_000, dtype=torch.long), **(
        {"scale": {"mean": [mean], "std": [std]}} if scaled else {}
    ))  # fmt: skip
    model = Above((EDGE - mean) / std if scaled else EDGE)
    measured = _measured(lab, model, data, noise=(0.05, 0.2), shifts=())
    for deviation in (0.05, 0.2):
        expected = stats.norm.cdf(0.1 / deviation)
        error = 5 * (expected * (1 - expected) / 20_000) ** 0.5
        assert measured[f"noise_{deviation}_accuracy".replace(".", "_")] == pytest.approx(expected, abs=error)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [(TensorSpec((1, 2, 2)), 0.0, 1.0), (TensorSpec((1, 2, 2), low=None, high=None), -np.inf, np.inf),
     (TensorSpec((1, 2, 2), low=-1.0, high=None), -1.0, np.inf)],
)  # fmt: skip
def test_noisy_inputs_stay_in_the_range_of_the_data(
    lab: Lab, spec: TensorSpec, low: float, high: float
) -> None:
    scale = {"mean": [0.3], "std": [0.5]}
    x, model = torch.full((500, 1, 2, 2), 0.5), Seen()
    _measured(lab, model, _data(x, spec=spec, scale=scale), noise=(2.0,), shifts=())
    raw = torch.cat(model.given) * 0.5 + 0.3
    assert low - 1e-6 <= raw.min() <= max(low, -1) + 1e-6
    assert high + 1e-6 >= raw.max() >= min(high, 2) - 1e-6


def test_every_model_and_every_deviation_gets_the_same_draws_and_another_seed_others(lab: Lab) -> None:
    x = torch.full((5000, 1, 4, 4), 0.5)
    wide = TensorSpec((1, 4, 4), low=None, high=None)

    def draws(seed: int = 0, **options: Any) -> list[np.ndarray]:
        model = Seen()
        _measured(lab, model, _data(x, spec=wide), seed, shifts=(), **options)
        assert len(model.given) % 3 == 0, "5,000 inputs are seen in three parts"
        per_size = np.array_split(torch.cat(model.given).numpy() - 0.5, len(model.given) // 3)
        return per_size[-len(options["noise"]) :]

    one, two = draws(noise=(0.1, 0.3))
    np.testing.assert_allclose(one * 3, two, atol=1e-5)
    (again,) = draws(noise=(0.1,))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, draws(1, noise=(0.1,))[0])
    assert stats.kstest(one.flatten() / 0.1, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(one[:2048].flatten(), one[2048:4096].flatten())[0, 1]) < 0.03


@pytest.mark.parametrize("scaled", [False, True])
def test_images_move_by_so_many_pixels_in_all_four_directions_and_black_comes_in(
    lab: Lab, scaled: bool
) -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 3, 5, 6) + 0.1
    options = {"scale": {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}} if scaled else {}
    model = Seen()
    _measured(lab, model, _data(x, **options), noise=(), shifts=(2,))
    given = torch.cat(model.given)[-400:]
    if scaled:
        mean, std = (torch.tensor(options["scale"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        given = given * std + mean
    ways = []
    for axis, step in ((2, -2), (2, 2), (3, -2), (3, 2)):
        rolled = np.roll(x.numpy(), step, axis)
        np.moveaxis(rolled, axis, 0)[slice(step, None) if step < 0 else slice(step)] = 0
        ways.append(np.abs(given.numpy() - rolled).reshape(400, -1).max(1) < 1e-6)
    counts = np.sum(ways, 1)
    assert counts.sum() == 400, "each image in one way"
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_curves_start_at_the_test_inputs_as_they_are(lab: Lab, device: str) -> None:
    data, model = lab.data(device, scale="standard"), lab.mlp().to(device)
    ctx = lab.context(data=data, streams=rng.judging(0, "eval.robustness"), device=device)
    measured = Robustness(RobustnessConfig(noise=(0.3, 0.1))).evaluate(model, ctx)
    with torch.no_grad():
        clean = float((model(data.test.x).argmax(1) == data.test.y).double().mean())
    for kind, sizes in (("noise", (0.1, 0.3)), ("shift", (1, 2, 4))):
        named = [(size, measured[f"{kind}_{size}_accuracy".replace(".", "_")]) for size in sizes]
        assert ctx.curves[f"{kind}_accuracy"] == [(0.0, pytest.approx(clean)), *named]
    assert len(measured) == 5


def test_by_default_inputs_that_are_no_images_are_not_moved(lab: Lab) -> None:
    torch.manual_seed(0)
    assert set(_measured(lab, Above(0.5), _data(torch.rand(30, 6)), noise=(0.1,))) == {"noise_0_1_accuracy"}
    small = _measured(lab, Above(0.5), _data(torch.rand(30, 1, 3, 9)), noise=(0.1,))
    assert set(small) == {"noise_0_1_accuracy", "shift_1_accuracy", "shift_2_accuracy"}


@pytest.mark.parametrize(
    ("x", "spec", "options", "message"),
    [
        (torch.rand(9, 6), None, {"shifts": (1,)}, r"moves images .* inputs are \(6,\)"),
        (torch.rand(9, 1, 3, 4), None, {"shifts": (1, 3)}, r"images of 3 pixels by 3: out of sight"),
        (torch.arange(9)[:, None], TensorSpec((1,), "int64", 0, 9), {}, r"noise to one tensor of floats"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_to_these_inputs_is_told(
    lab: Lab, x: Tensor, spec: TensorSpec | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CompressitError, match=message):
        _measured(lab, Above(0.5), _data(x, spec=spec), **options)


def test_whole_numbers_can_be_left_without_noise(lab: Lab) -> None:
    data = _data(torch.arange(9)[:, None], spec=TensorSpec((1,), "int64", 0, 9))
    assert _measured(lab, Above(0.5), data, noise=()) == {}


@pytest.mark.parametrize(
    ("poses", "columns"),
    [
        (
            "classification",
            {"noise_0_5_accuracy", "shift_1_accuracy", "shift_2_accuracy", "shift_4_accuracy"},
        ),
        ("regression", {"noise_0_5_rmse", "shift_1_rmse", "shift_2_rmse", "shift_4_rmse"}),
        ("segmentation", {"noise_0_5_miou"}),
    ],
)
def test_the_score_is_the_one_that_the_task_watches(lab: Lab, poses: str, columns: set[str]) -> None:
    task = installed().task(compressit.TaskSpec(f"task.{poses}", 2))
    plugin = Robustness(RobustnessConfig(noise=(0.5,)))
    declared = {
        name: what for name, what in plugin.declares(task).items() if isinstance(what, compressit.Metric)
    }
    assert declared.keys() == columns
    assert {what.better for what in declared.values()} == {"lower" if poses == "regression" else "higher"}


def test_maps_of_classes_cannot_move(lab: Lab) -> None:
    maps, classes = (
        installed().task(compressit.TaskSpec(f"task.{name}", 2))
        for name in ("segmentation", "classification")
    )
    assert "shifts" in Robustness(RobustnessConfig(shifts=(1,))).misfits(maps)
    assert not Robustness(RobustnessConfig(shifts=(1,))).misfits(classes)
    assert not Robustness(RobustnessConfig()).misfits(maps)


def test_two_sizes_must_differ_and_never_share_a_column() -> None:
    with pytest.raises(ValidationError, match="must differ"):
        RobustnessConfig(noise=(0.1, 0.1))
    close = Robustness(RobustnessConfig(noise=(0.12345678, 0.123456789, 1.0), shifts=()))
    columns = close.declares(installed().task(compressit.TaskSpec("task.classification", 2)))
    assert {"noise_0_12345678_accuracy", "noise_0_123456789_accuracy", "noise_1_accuracy"} < columns.keys()
