"""Critical points of a loss: where its gradient is zero, found by Newton's method, and how many ways lead down."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from compressit import CompressitError, StageContext, grouped
from compressit_plugins.landscape.each import each
from compressit_plugins.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4096
"""Weights of which the whole Hessian is made in each step."""

NUMBERS = ("loss", "index", "squared_gradient", "flatness", "steps", "start_loss")
ZERO = 1e-6
"""Eigenvalues count as negative from this times the largest absolute one."""

_RATE, _MOMENTUM = 0.1, 0.9  # of the descent
_PATIENCE, _FALL = 15, 0.9  # Newton's method ends where that many steps did not lower the goal to this share
_DAMPING = (1e-3, 1e10)  # at first, relative to the largest entry of H²'s diagonal; and where it gives up
_FLAT = 1e-4  # the gradient is as good as unseen by the Hessian


@dataclass(frozen=True)
class Landscape:
    """The mean loss and `l2` / 2 times the squared length of the weights."""

    surface: Surface
    l2: float

    def loss(self, at: Tensor) -> float:
        """At weights (n,)."""
        return float(self.surface.loss(at) + self.l2 / 2 * at @ at)

    def gradient(self, at: Tensor) -> Tensor:
        """(n,)"""
        return self.surface.gradient(at) + self.l2 * at

    def hessian(self, at: Tensor) -> Tensor:
        """(n, n)"""
        found = self.surface.hessian(at)
        found.diagonal().add_(self.l2)
        return found


@dataclass(frozen=True)
class Reached:
    """Where Newton's method ended."""

    at: Tensor  # (n,)
    gradient: Tensor  # (n,)
    hessian: Tensor  # (n, n)
    steps: int


def measured(
    model: nn.Module,
    ctx: StageContext,
    images: int,
    attempts: int,
    l2: float,
    descent: int,
    steps: int,
    accept: float,
) -> dict[str, float]:
    """The numbers of `eval.critical_points`, none where the loss is not finite; keeps the rest in `ctx`.

    Raises CompressitError for a net of more than `MOST` weights, and for one on which the descent is lost.
    """
    surface = Surface.of(model, ctx, images, torch.float64)
    n = len(surface)
    if n > MOST:
        raise CompressitError(
            f"{type(model).__name__} has {grouped(n)} weights: eval.critical_points makes the whole Hessian of at most "
            f"{grouped(MOST)}",
            "measure a smaller net, or its largest eigenvalues by `eval.hessian`",
        )
    if not surface.loss(surface.start).isfinite():
        return {}
    landscape = Landscape(surface, l2)
    starts = along_descent(landscape, descent, attempts)

    def row(at: int) -> list[float]:
        start = perturbed(starts[at], ctx.streams.generator("start", at))
        return numbers(landscape, start, newton(landscape, start, steps, accept))

    found = each(ctx, attempts, len(NUMBERS) + n, row)
    points, eigenvalues = found[:, : len(NUMBERS)], found[:, len(NUMBERS) :]
    accepted = points[:, 2] < accept
    ctx.save("critical_points", points)
    ctx.save("critical_eigenvalues", eigenvalues)
    losses, indices = points[accepted, 0], points[accepted, 1]
    for loss, index in sorted(zip(losses.tolist(), indices.tolist(), strict=True)):
        ctx.log(loss, critical_index=index)
    if len(losses):
        ctx.picture("critical_picture", _drawn(losses, indices))
    return {
        "critical_accepted": float(accepted.sum()),
        "critical_rejected": float((~accepted).sum()),
        "critical_flat": float((~accepted & (points[:, 3] < _FLAT)).sum()),
        "critical_distinct": float(len(points[accepted, :2].mul(1e4).round().unique(dim=0))),
        **_relation(losses, indices),
    }


def along_descent(landscape: Landscape, steps: int, count: int) -> list[Tensor]:
    """`count` points (n,) along a descent with momentum from the net's weights, evenly spaced in loss.

    Raises CompressitError where the loss is not finite."""
    at = landscape.surface.start
    path, losses, velocity = [at], [landscape.loss(at)], torch.zeros_like(at)
    for _ in range(steps):
        velocity = _MOMENTUM * velocity + landscape.gradient(at)
        at = at - _RATE * velocity
        path.append(at)
        losses.append(landscape.loss(at))
    if not np.isfinite(losses).all():
        raise CompressitError(
            "eval.critical_points descends from the net's weights, and the loss became infinite",
            "start from smaller weights, or use `descent: 0`, to start around the net",
        )
    lowest = np.minimum.accumulate(losses)
    wanted = np.linspace(lowest[0], lowest[-1], count)
    return [path[min(bisect_left(-lowest, -value), len(path) - 1)] for value in wanted]


def perturbed(at: Tensor, generator: torch.Generator) -> Tensor:
    """The point with Gaussian noise of 0.001 to 1 times the deviation of its entries, uniform in the logarithm."""
    scale = 10 ** (3 * torch.rand((), generator=generator, dtype=torch.float64) - 3)
    noise = torch.randn(len(at), generator=generator, dtype=torch.float64)
    return at + (scale * noise).to(at) * at.std()


def newton(landscape: Landscape, at: Tensor, steps: int, accept: float) -> Reached:
    """Where damped Newton steps end that lower the squared norm of the gradient: (H² + µ)⁻¹ H g.

    Levenberg and Marquardt's method (Nielsen's rule for µ, 1999), with the gradient as what is to vanish, as Newton-MR
    (Roosta et al. 2018) minimises it; so it finds saddles as well as minima. It goes on below `accept`, for as long as
    it falls fast. It may end where the Hessian does not see the gradient: no critical point (Frye et al. 2021).
    """
    slope, curved = landscape.gradient(at), landscape.hessian(at)
    squared = curved @ curved
    damping = _DAMPING[0] * float(squared.diagonal().max())
    raised, done, goals = 2.0, 0, [float(slope @ slope)]
    while done < steps and goals[-1] > 1e-6 * accept and damping < _DAMPING[1]:
        factor, failed = torch.linalg.cholesky_ex(squared + damping * torch.eye(len(at)).to(at))
        if failed:
            damping, raised = damping * raised, raised * 2
            continue
        step = -torch.cholesky_solve((curved @ slope)[:, None], factor)[:, 0]
        there = landscape.gradient(at + step)
        expected = goals[-1] - float((slope + curved @ step).square().sum())
        gained = (goals[-1] - float(there @ there)) / expected if expected > 0 else nan
        if not gained > ZERO:
            damping, raised = damping * raised, raised * 2
            continue
        at, slope, curved = at + step, there, landscape.hessian(at + step)
        squared = curved @ curved
        damping, raised, done = damping * max(0.1, 1 - (2 * gained - 1) ** 3), 2.0, done + 1
        goals.append(float(slope @ slope))
        if len(goals) > _PATIENCE and goals[-1] > _FALL * goals[-1 - _PATIENCE]:
            break
    return Reached(at, slope, curved, done)


def numbers(landscape: Landscape, start: Tensor, reached: Reached) -> list[float]:
    """What `NUMBERS` names, and all eigenvalues of the Hessian, rising."""
    eigenvalues = torch.linalg.eigvalsh(reached.hessian)
    largest, size = float(eigenvalues.abs().max()), float(reached.gradient.norm())
    seen = float((reached.hessian @ reached.gradient).norm())
    return [
        landscape.loss(reached.at),
        float((eigenvalues < -ZERO * largest).double().mean()),
        size**2,
        seen / (size * largest) if size * largest > 0 else nan,
        float(reached.steps),
        landscape.loss(start),
        *eigenvalues.tolist(),
    ]


def _relation(losses: Tensor, indices: Tensor) -> dict[str, float]:
    """The rank correlation of loss and index, and the index where the loss is lowest; what is defined of them."""
    if not len(losses):
        return {}
    tenth = losses.argsort()[: max(1, len(losses) // 10)]
    found = {"critical_lowest_index": float(indices[tenth].mean())}
    if len(losses) > 2 and losses.std() > 0 and indices.std() > 0:
        result: Any = spearmanr(losses, indices)
        found["critical_correlation"] = float(result.statistic)
    return found


def _drawn(losses: Tensor, indices: Tensor) -> Figure:
    """A dot for each accepted point; beside it the same of a Gaussian random field."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    shifts = np.linspace(-1, 1, 101)
    left.plot(shifts, semicircle_below(shifts), color="0.3")
    left.set(
        xlabel="energy (shift of the semicircle / its radius)",
        ylabel="share of negative eigenvalues",
        title="a Gaussian random field, in theory",
    )
    right.plot(losses.numpy(), indices.numpy(), "o", markersize=4, alpha=0.6)
    right.set(xlabel="loss", title=f"this net: {len(losses)} critical points")
    return figure


def semicircle_below(shift: np.ndarray) -> np.ndarray:
    """The share of Wigner's (1955) semicircle of radius 1 about -`shift` that is below zero. `shift`: -1 to 1.

    Such are the eigenvalues at the critical points of a Gaussian random field in many dimensions; the higher the point,
    the lower lies the semicircle (Bray & Dean 2007).
    """
    return 0.5 + (shift * np.sqrt(1 - shift**2) + np.arcsin(shift)) / np.pi
