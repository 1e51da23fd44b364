from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressit_plugins.landscape.ascent import highest_in_box
from compressit_plugins.landscape.sharpness import Sharpness, SharpnessConfig
from compressit_plugins.landscape.surface import Surface


def _sharpness(lab: Lab, model: nn.Module, **options: Any) -> dict[str, float]:
    return dict(Sharpness(SharpnessConfig(**options)).evaluate(model, lab.context(data=lab.data(train=40))))


def _surface(lab: Lab, model: nn.Module, loss_of: Any) -> Surface:
    return Surface.of(model, lab.context(data=lab.data(train=40)), 40, torch.float64, loss_of)


class _Logits(nn.Module):
    """Answers every input with its weights."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([weights]))

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.expand(len(x), -1)


WEIGHTS = (0.5, -2.0, 0.1, 3.0, 1.0, -1.0, 0.25, 4.0, -0.5, 2.0)


def test_a_linear_loss_is_highest_in_the_corner_of_the_box(lab: Lab) -> None:
    """Of Σ c w the corner is epsilon * Σ |c| (|w| + 1) higher."""
    c = torch.linspace(-2, 3, 10, dtype=torch.float64)
    surface = _surface(lab, _Logits(*WEIGHTS), lambda outputs, _: outputs @ c)
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    rise = float((0.01 * c.abs() * (w.abs() + 1)).sum())
    found = highest_in_box(surface, surface.start, 0.01, 10)
    assert found == pytest.approx(float(c @ w) + rise, rel=1e-9)


def test_a_quadratic_loss_near_its_minimum_is_highest_in_a_corner_too(lab: Lab) -> None:
    """Gradients of 1e-7 there are below every usual tolerance."""
    h = torch.linspace(1, 4, 10, dtype=torch.float64)
    center = torch.tensor(WEIGHTS, dtype=torch.float64) - 1e-7
    surface = _surface(lab, _Logits(*WEIGHTS), lambda outputs, _: (outputs - center).pow(2) @ h / 2)
    reach = 1e-3 * (torch.tensor(WEIGHTS, dtype=torch.float64).abs() + 1) + 1e-7
    found = highest_in_box(surface, surface.start, 1e-3, 10)
    assert found == pytest.approx(float(h @ reach.pow(2)) / 2, rel=1e-6)


def test_the_measures_of_logits_that_are_weights_are_those_worked_out_by_hand(lab: Lab) -> None:
    """All examples have the same logits w, so the gradient is softmax(w) less the share of each label, a tenth."""
    net = _Logits(*WEIGHTS)
    found = _sharpness(lab, net, epsilon=1e-4, rho=0.05, adaptive_rho=0.5)
    y = lab.data(train=40).train.y

    def loss(w: Tensor) -> float:
        return float(cross_entropy(w.expand(len(y), -1), y))

    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    slope = w.softmax(0) - 0.1
    assert y.bincount().tolist() == [4] * 10
    corner = w + 1e-4 * (w.abs() + 1) * slope.sign()
    assert found["sharpness"] == pytest.approx(100 * (loss(corner) - loss(w)) / (1 + loss(w)), rel=1e-6)
    step = 0.05 * slope / np.linalg.norm(slope)
    assert found["sharpness_ball"] == pytest.approx(loss(w + step) - loss(w), rel=1e-6)
    size = w.abs()
    step = 0.5 * size**2 * slope / np.linalg.norm(size * slope)
    assert found["sharpness_adaptive"] == pytest.approx(loss(w + step) - loss(w), rel=1e-6)


def test_only_the_adaptive_measure_does_not_change_when_a_scale_moves_to_the_next_layer(lab: Lab) -> None:
    plain, moved = lab.mlp(), lab.mlp()
    first, last = (module for module in moved if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight *= 8
        first.bias *= 8
        last.weight /= 8
    before, after = _sharpness(lab, plain), _sharpness(lab, moved)
    assert after["sharpness_adaptive"] == pytest.approx(before["sharpness_adaptive"], rel=1e-4)
    assert after["sharpness"] != pytest.approx(before["sharpness"], rel=0.05)
    assert after["sharpness_ball"] != pytest.approx(before["sharpness_ball"], rel=0.05)


def test_pruned_weights_do_not_move(lab: Lab) -> None:
    """A unit without inputs: its outgoing weights are pruned, and its bias would else lift the loss."""
    net = lab.mlp()
    first, last = (module for module in net if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight[3:] = 0
        last.weight[:, 3:] = 0
    thin = lab.mlp(3)
    small, end = (module for module in thin if isinstance(module, nn.Linear))
    with torch.no_grad():
        small.weight.copy_(first.weight[:3])
        small.bias.copy_(first.bias[:3])
        end.weight.copy_(last.weight[:, :3])
        end.bias.copy_(last.bias)
    assert _sharpness(lab, net) == pytest.approx(_sharpness(lab, thin), rel=1e-6)
