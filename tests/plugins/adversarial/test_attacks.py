"""Attacks on linear nets, where every answer can be worked out by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch
from linear import B, W, binary, margins, victim
from torch import Tensor, nn

from compressit_plugins.adversarial.attacks import Ball, Goal, fast, lengths, nearest, noisy, projected

LENGTH = float(np.linalg.norm(W))


def _inputs(count: int = 200) -> tuple[Tensor, Tensor]:
    """Inputs (N, 3) around the middle, and what the binary net answers."""
    torch.manual_seed(0)
    x = 0.5 + 0.3 * torch.randn(count, 3)
    return x, (margins(x) <= 0).long()


def test_the_nearest_input_of_a_linear_net_is_margin_over_length_away() -> None:
    x, y = _inputs()
    found, far = nearest(victim(binary(), -inf, inf), x, Goal(y), steps=100)
    expected = margins(x).abs() / LENGTH
    torch.testing.assert_close(far, expected, rtol=0.01, atol=1e-4)
    assert bool((far >= expected - 1e-6).all()), "nothing nearer is wrong"
    assert bool(((margins(found) <= 0).long() != y).all())
    torch.testing.assert_close(lengths(found - x), far, rtol=1e-4, atol=1e-6)


def test_the_range_makes_the_nearest_input_go_another_way() -> None:
    """The margin is 1. The first value may fall by 0.1 only, which takes 0.4 of it; the second takes the rest."""
    x = torch.tensor([[0.1, 0.5]])
    net = binary((4.0, 3.0), bias=1 - 0.4 - 1.5)
    found, far = nearest(victim(net), x, Goal(torch.tensor([0])), steps=200)
    assert float(far) == pytest.approx(np.hypot(0.1, 0.2), rel=0.01)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.3]]), atol=2e-3, rtol=0)
    _, free = nearest(victim(net, -inf, inf), x, Goal(torch.tensor([0])), steps=200)
    assert float(free) == pytest.approx(1 / 5, rel=0.01)


def test_a_target_must_beat_every_other_class() -> None:
    """Logits are 5 x. At the nearest input of class 2 all three values are equal: their mean."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    net[1].weight.data = 5 * torch.eye(3)
    x = torch.tensor([[0.8, 0.5, 0.1]])
    found, far = nearest(victim(net), x, Goal(torch.tensor([2]), targeted=True), steps=400)
    assert float(far) == pytest.approx(float((x - x.mean()).norm()), rel=0.02)
    assert int(found.argmax()) == 2
    one, _ = nearest(victim(net), x, Goal(torch.tensor([0])), steps=100)
    assert int(one.argmax()) == 1, "without a target the next best class is nearer"


def test_where_no_input_is_wrong_none_is_found() -> None:
    net = binary((1.0, 1.0), bias=5.0)
    x = torch.tensor([[0.5, 0.5]])
    found, far = nearest(victim(net), x, Goal(torch.tensor([0])), steps=20)
    assert float(far) == inf
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("size", [0.02, 0.1, 0.3])
def test_one_gradient_step_is_exact_for_a_linear_net(size: float) -> None:
    """It takes as much of the margin as any change in the box can: size times the sum of |weights|."""
    x, y = _inputs()
    changed = fast(victim(binary(), -inf, inf), x, Goal(y), Ball(size))
    torch.testing.assert_close(margins(changed).abs(), (margins(x).abs() - size * sum(map(abs, W))).abs())
    wrong = (margins(changed) <= 0).long() != y
    assert wrong.tolist() == (margins(x).abs() < size * sum(map(abs, W))).tolist()


def test_one_gradient_step_is_cut_off_at_the_range() -> None:
    changed = fast(
        victim(binary((4.0, 3.0), 0.0)), torch.tensor([[0.1, 0.5]]), Goal(torch.tensor([0])), Ball(0.25)
    )
    torch.testing.assert_close(changed, torch.tensor([[0.0, 0.25]]))


def test_a_very_sure_net_is_no_harder_to_attack() -> None:
    """At a margin of 1,000 the cross-entropy and its gradient are 0 in floats."""
    x, y = _inputs(20)
    sure = binary([400 * w for w in W], 400 * B)
    for attack in (
        lambda net: fast(victim(net, -inf, inf), x, Goal(y), Ball(0.1)),
        lambda net: projected(victim(net, -inf, inf), x, Goal(y), Ball(0.1), 5, 0.03, [x]),
    ):
        torch.testing.assert_close(attack(sure), attack(binary()))


@pytest.mark.parametrize("targeted", [False, True])
def test_what_attacks_raise_has_the_direction_of_the_cross_entropys_gradient(targeted: bool) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(30, 5, dtype=torch.float64, requires_grad=True), torch.arange(30) % 5
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum") * (-1 if targeted else 1)
    (expected,) = torch.autograd.grad(loss, logits)
    (given,) = torch.autograd.grad(Goal(labels, targeted).gain(logits).sum(), logits)
    torch.testing.assert_close(nn.functional.normalize(given), nn.functional.normalize(expected))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projected_descent_on_a_linear_net_succeeds_where_success_is_possible(norm: str) -> None:
    x, y = _inputs()
    ball = Ball(0.1, norm)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    starts = (x + ball.drawn(x, generator) for _ in range(2))
    changed = projected(victim(binary(), -inf, inf), x, Goal(y), ball, 40, 0.01, starts)
    wrong = (margins(changed) <= 0).long() != y
    reach = 0.1 * (sum(map(abs, W)) if norm == "linf" else LENGTH)
    clear = (margins(x).abs() - reach).abs() > 1e-3
    assert wrong[clear].tolist() == (margins(x).abs() < reach)[clear].tolist()
    size = (changed - x).abs().amax(1) if norm == "linf" else lengths(changed - x)
    assert float(size.max()) <= 0.1 + 1e-6


def test_projected_descent_stays_in_the_range() -> None:
    x = torch.rand(50, 3)
    ball = Ball(0.4)
    starts = [x + ball.drawn(x, torch.Generator().manual_seed(0))]
    changed = projected(victim(binary()), x, Goal((margins(x) <= 0).long()), ball, 10, 0.1, starts)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


def test_a_later_start_may_find_what_an_earlier_one_did_not() -> None:
    """A net that is wrong in the corner only, behind a wall without gradient."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            inside = torch.relu(x[:, 0] - 0.8)
            return torch.stack([torch.ones_like(inside), 20 * inside], 1)

    x, goal = torch.tensor([[0.5]]), Goal(torch.tensor([0]))
    starts = [torch.tensor([[0.5]]), torch.tensor([[0.82]])]
    assert not bool(
        goal.reached(Corner()(projected(victim(Corner()), x, goal, Ball(0.4), 10, 0.04, starts[:1])))
    )
    assert bool(goal.reached(Corner()(projected(victim(Corner()), x, goal, Ball(0.4), 10, 0.04, starts))))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_uniform_in_the_ball(norm: str) -> None:
    """Of each value in a box, and of the length to the power of the dimension in a Euclidean ball."""
    from scipy import stats

    draws = Ball(0.2, norm).drawn(torch.zeros(4000, 3), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    uniform = draws[:, 0] / 0.4 + 0.5 if norm == "linf" else (lengths(draws) / 0.2) ** 3
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3
    assert float(draws.mean(0).abs().max()) < 0.01


def test_noise_is_exactly_as_far_away_also_at_the_edge_of_the_range() -> None:
    x = torch.zeros(30, 100)  # half of the noise is cut off
    wanted = torch.linspace(0.1, 3, 30)
    changed = noisy(victim(binary()), x, wanted, torch.Generator().manual_seed(0))
    torch.testing.assert_close(lengths(changed - x), wanted, rtol=1e-3, atol=0)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


def test_nan_is_no_nearest_input() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(1), x.sum(1) * torch.nan], 1)

    _, far = nearest(victim(Broken()), torch.rand(3, 4), Goal(torch.zeros(3, dtype=torch.long)), steps=3)
    assert far.tolist() == [inf] * 3


def test_foolbox_finds_the_same_distances_and_answers() -> None:
    """Carlini & Wagner's attack takes 1,800 gradients for what takes 100 here."""
    foolbox = pytest.importorskip("foolbox")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)).eval()
    x = torch.rand(60, 20)
    y = net(x).argmax(1)
    theirs = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=200)
    _, changed, _ = attack(theirs, x, foolbox.Misclassification(y), epsilons=None)
    _, far = nearest(victim(net), x, Goal(y), steps=100)
    ratio = far / lengths(changed - x)
    assert float(ratio.median()) == pytest.approx(1, abs=0.01)
    assert float((ratio < 1.03).float().mean()) >= 0.95
    attack = foolbox.attacks.LinfPGD(steps=20, abs_stepsize=0.01, random_start=False)
    _, _, wrong = attack(theirs, x, y, epsilons=0.1)
    ours = net(projected(victim(net), x, Goal(y), Ball(0.1), 20, 0.01, [x])).argmax(1) != y
    assert abs(float(ours.float().mean()) - float(wrong.float().mean())) <= 0.02
    assert 0.1 < float(ours.float().mean()) < 0.9
