from __future__ import annotations

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from scipy.special import softmax
from tables import Table, numbered

from compressit_plugins.evaluate.calibration import Calibration, CalibrationConfig, binned

Y = torch.arange(64) % 4


def _expected(probabilities: np.ndarray, y: np.ndarray, bins: int) -> tuple[float, list[tuple[float, float]]]:
    """Guo et al. 2017, equations 2 and 3, example by example; and the reliability diagram's points."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == y
    error, points = 0.0, []
    for m in range(1, bins + 1):
        inside = [i for i in range(len(y)) if (m - 1) / bins < sure[i] <= m / bins]
        if inside:
            confidence, accuracy = float(np.mean(sure[inside])), float(np.mean(right[inside]))
            error += len(inside) / len(y) * abs(accuracy - confidence)
            points.append((confidence, accuracy))
    return error, points


@pytest.mark.parametrize("bins", [1, 3, 15])
@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_the_error_and_the_curve_are_those_of_guo_et_al(
    lab: Lab, device: str, bins: int, scale: float
) -> None:
    logits = torch.tensor(np.random.default_rng(1).normal(size=(64, 4)) * scale).float()
    ctx = lab.context(data=numbered(Y, device=device), device=device)
    measured = Calibration(CalibrationConfig(bins=bins)).evaluate(Table(logits).to(device), ctx)
    probabilities = softmax(logits.double().numpy(), axis=1)
    error, points = _expected(probabilities, Y.numpy(), bins)
    assert measured["test_calibration_error"] == pytest.approx(error, abs=1e-9)
    assert measured["test_confidence"] == pytest.approx(probabilities.max(1).mean(), abs=1e-9)
    assert ctx.curves["reliability"] == [pytest.approx(point) for point in points]


def test_torchmetrics_says_the_same(lab: Lab) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits = torch.tensor(np.random.default_rng(2).normal(size=(64, 4)) * 2).double()
    measured = Calibration(CalibrationConfig()).evaluate(Table(logits), lab.context(data=numbered(Y)))
    known = metrics.multiclass_calibration_error(
        logits.float().double().softmax(1), Y, num_classes=4, n_bins=15
    )
    assert measured["test_calibration_error"] == pytest.approx(float(known), abs=1e-6)


def test_a_net_that_is_right_as_often_as_it_says_has_no_error(lab: Lab) -> None:
    """All examples are answered with a probability of 7/8, and so many are right."""
    told = torch.where(torch.arange(64) % 8 == 0, (Y + 1) % 4, Y)  # 8 of 64 are wrong: those of class 0
    probabilities = torch.full((64, 4), 0.125 / 3).scatter(1, told[:, None], 0.875)
    measured = Calibration(CalibrationConfig()).evaluate(
        Table(probabilities.log()), lab.context(data=numbered(Y))
    )
    assert measured["test_calibration_error"] == pytest.approx(0, abs=1e-6)
    assert measured["test_confidence"] == pytest.approx(0.875)


def test_a_bin_holds_its_upper_end() -> None:
    confidence = torch.tensor([0.25, 0.5, 0.5, 1.0], dtype=torch.float64)
    weight, sure, right = binned(confidence, torch.tensor([True, False, True, True]), 2)
    assert weight.tolist() == [0.75, 0.25]
    assert sure.tolist() == [pytest.approx(1.25 / 3), 1.0]
    assert right.tolist() == [pytest.approx(2 / 3), 1.0]


def test_a_net_that_is_always_sure_is_off_by_its_errors(lab: Lab) -> None:
    logits = torch.nn.functional.one_hot(torch.zeros(64, dtype=torch.long), 4) * 1e4
    ctx = lab.context(data=numbered(Y))
    measured = Calibration(CalibrationConfig()).evaluate(Table(logits.float()), ctx)
    assert measured == {"test_calibration_error": 0.75, "test_confidence": 1.0}
    assert ctx.curves["reliability"] == [(1.0, 0.25)]


def test_nan_logits_have_no_confidence(lab: Lab) -> None:
    ctx = lab.context(data=numbered(Y))
    measured = Calibration(CalibrationConfig()).evaluate(Table(torch.full((64, 4), torch.nan)), ctx)
    assert all(np.isnan(value) for value in measured.values())
    assert not ctx.curves
