from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from linear import W, binary, data, margins
from plugin_lab import Lab
from torch import nn

from compressit.running import rng
from compressit_plugins.adversarial.critical import gini
from compressit_plugins.adversarial.critical_samples import CriticalSamples, CriticalSamplesConfig


def _measured(
    lab: Lab, model: nn.Module, x: torch.Tensor, y: torch.Tensor, **options: Any
) -> tuple[Any, Any]:
    ctx = lab.context(data=data(x, y), streams=rng.judging(0, "eval.critical_samples"))
    return CriticalSamples(CriticalSamplesConfig(**options)).evaluate(model, ctx), ctx


def test_an_example_of_a_linear_net_is_critical_if_the_box_reaches_over_its_margin(lab: Lab) -> None:
    """Whatever its label is: it is compared with the net's own answer."""
    torch.manual_seed(0)
    x = 0.5 + 0.1 * torch.randn(200, 1, 1, 3).clamp(-3, 3)
    measured, ctx = _measured(lab, binary(), x, torch.arange(200) % 2, radii=(0.05, 0.02))
    for radius in (0.02, 0.05):
        expected = float((margins(x).abs() < radius * sum(map(abs, W))).double().mean())
        assert 0.1 < expected < 0.9
        assert measured[f"critical_samples_{radius}".replace(".", "_")] == pytest.approx(expected, abs=0.006)
    assert [point[0] for point in ctx.curves["critical_samples"]] == [0.02, 0.05]


def test_the_losss_sensitivity_is_that_of_softmax_regression(lab: Lab) -> None:
    """Of two logits (m, 0) the loss has the gradient (p(other) times the weights), so its mean absolute value is
    p(other) times the mean |weight|."""
    torch.manual_seed(0)
    x, y = torch.rand(100, 1, 1, 3), torch.arange(100) % 2
    measured, _ = _measured(lab, binary(), x, y, steps=1)
    other = torch.sigmoid(torch.where(y == 0, -1, 1) * margins(x)).double().numpy()
    expected = other * np.mean(np.abs(W))
    assert measured["loss_sensitivity"] == pytest.approx(expected.mean(), rel=1e-4)
    pairs = np.abs(expected[:, None] - expected[None]).mean()
    assert measured["loss_sensitivity_gini"] == pytest.approx(pairs / 2 / expected.mean(), rel=1e-4)


def test_gini_of_equal_unequal_and_ascending_values() -> None:
    assert gini(torch.full((7,), 0.3, dtype=torch.float64)) == pytest.approx(0, abs=1e-12)
    assert gini(torch.tensor([0, 0, 0, 5.0], dtype=torch.float64)) == pytest.approx(3 / 4)
    assert gini(torch.tensor([3.0, 1, 4, 2], dtype=torch.float64)) == pytest.approx(3 / (3 * 4))
    assert np.isnan(gini(torch.zeros(3, dtype=torch.float64)))


def test_the_split_is_the_one_asked_for(lab: Lab) -> None:
    x, y = torch.rand(40, 1, 1, 3), torch.arange(40) % 2
    with pytest.raises(Exception, match="no validation split"):
        _measured(lab, binary(), x, y, split="validation")
    with pytest.raises(ValueError, match="must differ"):
        CriticalSamplesConfig(radii=(0.1, 0.1))


def test_nan_answers_are_not_searched(lab: Lab) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.flatten(1).sum(1), x.flatten(1).sum(1) * torch.nan], 1)

    measured, ctx = _measured(lab, Broken(), torch.rand(9, 1, 1, 3), torch.arange(9) % 2)
    assert "critical_samples_0_1" not in measured
    assert not ctx.curves
