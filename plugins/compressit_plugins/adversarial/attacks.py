"""Attacks on a classifier: within a ball, and the nearest input of another class.

They are written here because no library of attacks is both kept and light. Foolbox (MIT) had its last release in
March 2024, and its minimum-norm attack in L2 never projects (`norms / norms`); torchattacks (MIT) had its in 2023 and
pins `requests` to 2.25; the Adversarial Robustness Toolbox (MIT) is alive, and brings scikit-learn and wrappers of its
own around nets, losses and optimizers. The tests compare with Foolbox where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Literal

import torch
from torch import Generator, Tensor

from compressit import Streams, answers
from compressit_plugins.adversarial.options import SearchConfig
from compressit_plugins.adversarial.victim import Victim

Norm = Literal["linf", "l2"]
_TINY = 1e-30  # instead of a length of 0


@dataclass(frozen=True)
class Goal:
    """What an attack wants of each example: another class than its label, or the label itself (`targeted`)."""

    labels: Tensor  # (B,) int64
    targeted: bool = False

    def reached(self, logits: Tensor) -> Tensor:
        """Where the answer is as wanted, (B,) bool; of NaNs it is neither class."""
        return (answers(logits) == self.labels) == self.targeted

    def gain(self, logits: Tensor) -> Tensor:
        """What attacks within a ball raise, (B,): the log-odds against the label; less that where it is the target.

        The cross-entropy of the label is a function of them that rises, so the steps have the same directions. But its
        gradient vanishes where the net is sure, which would only look like robustness (Carlini & Wagner 2017).
        """
        mine = logits.gather(1, self.labels[:, None]).squeeze(1)
        against = self._others(logits).logsumexp(1) - mine
        return -against if self.targeted else against

    def margin(self, logits: Tensor) -> Tensor:
        """How far the logits are from the goal, (B,): negative where it is reached."""
        mine = logits.gather(1, self.labels[:, None]).squeeze(1)
        best = self._others(logits).amax(1)
        return best - mine if self.targeted else mine - best

    def _others(self, logits: Tensor) -> Tensor:
        return logits.scatter(1, self.labels[:, None], -inf)


@dataclass(frozen=True)
class Ball:
    """Changes of inputs of at most `radius`: of every value (`linf`), or of their Euclidean length (`l2`)."""

    radius: float
    norm: Norm = "linf"

    def steepest(self, slope: Tensor, size: float) -> Tensor:
        """The change of this size along which a function with this slope (B, ...) rises most."""
        return size * (slope.sign() if self.norm == "linf" else _unit(slope))

    def cut(self, change: Tensor) -> Tensor:
        """The nearest changes (B, ...) in the ball."""
        if self.norm == "linf":
            return change.clamp(-self.radius, self.radius)
        return _shortened(change, torch.full_like(lengths(change), self.radius))

    def drawn(self, like: Tensor, generator: Generator) -> Tensor:
        """Changes (B, ...) uniform in the ball, drawn on the CPU."""
        if self.norm == "linf":
            return self.radius * (2 * torch.rand(like.shape, generator=generator) - 1).to(like)
        towards = _unit(torch.randn(like.shape, generator=generator).to(like))
        far = torch.rand(len(like), generator=generator).to(like) ** (1 / max(like[:1].numel(), 1))
        return self.radius * towards * _beside(far, towards)


def fast(victim: Victim, x: Tensor, goal: Goal, ball: Ball) -> Tensor:
    """The fast gradient sign method (Goodfellow et al. 2015): one step, of the ball's whole radius. With `l2` the
    fast gradient method of Miyato et al. 2017. Returns inputs (B, ...) in range; exact for linear binary classifiers
    unless the range cuts it short."""
    slope, _ = victim.slope(x, goal.gain)
    return victim.inside(x + ball.steepest(slope, ball.radius))


def starting(x: Tensor, ball: Ball, how: SearchConfig, streams: Streams, batch: int) -> Iterator[Tensor]:
    """Where the searches of a batch start: at random in the ball around `x` (B, ...), or once at `x`."""
    for number in range(how.restarts if how.random_start else 0):
        yield x + ball.drawn(x, streams.generator(f"start {number}", batch))
    if not how.random_start:
        yield x


def projected(
    victim: Victim, x: Tensor, goal: Goal, ball: Ball, steps: int, step: float, starts: Iterable[Tensor]
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018): steps of size `step` in the ball around `x` and in the range,
    from each of `starts` (B, ...) in turn. Returns the first inputs (B, ...) that reach the goal: `x` itself, or on the
    way; else the last ones."""
    kept, done = x, goal.reached(victim.logits(x))
    for start in starts:
        at = victim.inside(start)
        for number in range(steps + 1):
            if bool(done.all()):
                return kept
            slope, logits = victim.slope(at, goal.gain)
            kept = torch.where(_beside(done, at), kept, at)
            done = done | goal.reached(logits)
            if number < steps:
                at = victim.inside(x + ball.cut(at + ball.steepest(slope, step) - x))
    return kept


def nearest(victim: Victim, x: Tensor, goal: Goal, steps: int, step: float = 1.0) -> tuple[Tensor, Tensor]:
    """The fast minimum-norm attack (Pintor et al. 2021) in L2: the inputs (B, ...) in range, nearest to `x`, that reach
    the goal; and their distances (B,), infinite where none was found, whose inputs are `x`.

    The radius of a ball follows the nearest one found: it shrinks by 5 % (at last 0.1 %) where the goal is reached and
    grows by as much where it is not; steps of length `step` (at last a hundredth) along the margin's gradient are
    projected onto the ball and the range. So a distance is an upper bound of the least one. Unlike theirs, a step does
    not push values out of the range, which would waste it, and the first radius is 5 % beyond the estimated border.
    """
    at, best = x, x
    least = radius = torch.full((len(x),), inf, dtype=x.dtype, device=x.device)
    for number in range(steps + 1):
        slope, logits = victim.slope(at, goal.margin)
        margin, length = goal.margin(logits), lengths(at - x)
        there = margin < 0
        closer = there & (length < least)
        least = torch.where(closer, length, least)
        best = torch.where(_beside(closer, x), at, best)
        if number == steps:
            break
        left = (1 + cos(pi * number / steps)) / 2
        rate, size = 0.001 + 0.049 * left, step * (0.01 + 0.99 * left)
        slope = torch.where(victim.inside(at - slope.sign()) == at, 0.0, slope)
        ahead = length + margin.abs() / lengths(slope).clamp_min(_TINY)
        grown = torch.where(least < inf, radius, ahead) * (1 + rate)
        radius = torch.where(there, torch.minimum(radius * (1 - rate), least), grown)
        at = victim.inside(x + _shortened(at - x - size * _unit(slope), radius))
    return best, least


def noisy(victim: Victim, x: Tensor, length: Tensor, generator: Generator) -> Tensor:
    """Inputs (B, ...) in range at the distances `length` (B,) from `x`, in random directions: Gaussian noise, drawn on
    the CPU, cut off at the range, as strong as that takes. At the greatest distance where the range ends before."""
    towards = _unit(torch.randn(x.shape, generator=generator).to(x))
    strength = length
    for _ in range(30):
        far = lengths(victim.inside(x + _beside(strength, x) * towards) - x)
        strength = strength * (length / far.clamp_min(_TINY)).clamp(1, 4)
    return victim.inside(x + _beside(strength, x) * towards)


def lengths(change: Tensor) -> Tensor:
    """The Euclidean length (B,) of each of (B, ...)."""
    return torch.linalg.vector_norm(change.flatten(1), dim=1)


def _unit(change: Tensor) -> Tensor:
    return change / _beside(lengths(change).clamp_min(_TINY), change)


def _shortened(change: Tensor, radius: Tensor) -> Tensor:
    """No longer than `radius` (B,)."""
    return change * _beside((radius / lengths(change).clamp_min(_TINY)).clamp_max(1), change)


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ...), to go with `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))
