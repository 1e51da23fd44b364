"""Higher losses near a net's weights, for `eval.sharpness`."""

from __future__ import annotations

from math import isfinite, nan

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor

from compressit_plugins.landscape.surface import Surface


def sharpness(
    surface: Surface, epsilon: float, iterations: int, rho: float, adaptive_rho: float
) -> dict[str, float]:
    """The numbers of `eval.sharpness`, at the weights that the surface's net has."""
    at = surface.start
    value, slope = surface.value_and_gradient(at)
    own = float(value)
    highest = max(own, highest_in_box(surface, at, epsilon, iterations))
    ball = surface.loss(at + along(slope, torch.ones_like(at), rho))
    adaptive = surface.loss(at + along(slope, at.abs(), adaptive_rho))
    return {
        "sharpness": 100 * (highest - own) / (1 + own),
        "sharpness_ball": float(ball) - own,
        "sharpness_adaptive": float(adaptive) - own,
    }


def along(slope: Tensor, size: Tensor, rho: float) -> Tensor:
    """The step (n,) that raises a loss with this gradient most, of those whose entries, divided by `size`, have the
    norm rho; zero where the gradient is."""
    scaled = size * slope
    return rho * size * scaled / scaled.norm().clamp_min(torch.finfo(slope.dtype).tiny)


def highest_in_box(surface: Surface, at: Tensor, epsilon: float, iterations: int) -> float:
    """The highest loss seen by L-BFGS-B (Byrd et al. 1995, from scipy) within epsilon * (|w| + 1) of each weight."""
    center = at.cpu().numpy()
    reach = epsilon * (np.abs(center) + 1)
    seen: list[float] = []

    def lowered(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = surface.value_and_gradient(torch.from_numpy(point).to(at))
        seen.append(float(value))
        return -seen[-1], -slope.cpu().numpy()

    # Without tolerances: near a minimum both gradient and gain are smaller than the usual ones.
    exact = {"maxiter": iterations, "ftol": 0.0, "gtol": 0.0}
    bounds = Bounds(center - reach, center + reach)  # pyright: ignore[reportArgumentType]
    minimize(lowered, center, jac=True, method="L-BFGS-B", bounds=bounds, options=exact)
    return max(filter(isfinite, seen), default=nan)
