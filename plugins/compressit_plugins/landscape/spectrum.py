"""Eigenvalues, trace and spectral density of a Hessian that is only known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan, pi, sqrt
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Generator, Tensor

from compressit import CompressitError, StageContext
from compressit_plugins.landscape.surface import Surface

Products = Callable[[Tensor], Tensor]
"""Of vectors (k, n) a symmetric matrix times each, (k, n)."""

_WHOLE = 256  # weights of which the whole Hessian is as cheap
_RESTARTS = 300
_TOLERANCE = 1e-4  # of an eigenvalue, relative
_POINTS = 200  # of the density's curve
_WIDTH = 0.005  # of the kernel that makes a density of single eigenvalues, as a share of the range


@dataclass(frozen=True)
class Quadrature:
    """Eigenvalues seen from each of some random vectors: nodes and their weights, both (probes, steps), each row's
    weights with the sum 1. `traces`: each probe's estimate of the trace, (probes,)."""

    nodes: Tensor
    weights: Tensor
    traces: Tensor

    def trace(self) -> tuple[float, float]:
        """The mean of the probes' estimates, and its standard error: NaN for a single probe."""
        count = len(self.traces)
        error = self.traces.std() / sqrt(count) if count > 1 else nan
        return float(self.traces.mean()), float(error)

    def seen(self) -> Tensor:
        """The nodes that have a weight."""
        return self.nodes[self.weights > torch.finfo(self.weights.dtype).eps]

    def density(self) -> tuple[Tensor, Tensor]:
        """Places on the axis of eigenvalues, and the density there: (_POINTS,) each; its integral is 1."""
        low, high = float(self.seen().min()), float(self.seen().max())
        width = _WIDTH * (high - low or max(abs(high), 1.0))
        places = torch.linspace(low - 4 * width, high + 4 * width, _POINTS, dtype=self.nodes.dtype)
        kernel = torch.exp(-(((places[:, None, None] - self.nodes) / width) ** 2) / 2) / (
            width * sqrt(2 * pi)
        )
        return places, (kernel * self.weights).sum(2).mean(1)


def measured(
    model: torch.nn.Module, ctx: StageContext, images: int, eigenvalues: int, probes: int, steps: int
) -> dict[str, float]:
    """The numbers of `eval.hessian`, none where the loss is not finite; keeps its curve and arrays in `ctx`."""
    surface = Surface.of(model, ctx, images)
    at = surface.start
    if not surface.loss(at).isfinite():
        return {}

    def products(vectors: Tensor) -> Tensor:
        return surface.hvp(at, vectors)

    top = largest(products, at, eigenvalues, ctx.streams.generator("eigenvalues"))
    quadrature = quadrature_of(products, signs(at, probes, ctx.streams.generator("probes")), steps)
    for place, value in zip(*quadrature.density(), strict=True):
        ctx.log(float(place), hessian_density=float(value))
    ctx.save("hessian_eigenvalues", top)
    ctx.save("hessian_quadrature", torch.stack([quadrature.nodes, quadrature.weights]))
    trace, error = quadrature.trace()
    lowest = min(float(quadrature.seen().min()), float(top.min()))
    return {
        "hessian_top": float(top[0]),
        "hessian_lowest": lowest,
        "hessian_trace": trace,
        **({"hessian_trace_error": error} if probes > 1 else {}),
    }


def largest(products: Products, like: Tensor, count: int, generator: Generator) -> Tensor:
    """The `count` largest eigenvalues, at most all, in falling order: float64, on the CPU. `like`: (n,), any vector.

    By ARPACK's implicitly restarted Lanczos method (Lehoucq, Sorensen & Yang 1998), which starts from a random vector.
    Raises CompressitError where it does not converge.
    """
    n = len(like)
    if n <= max(_WHOLE, 2 * count):
        whole = products(torch.eye(n, dtype=like.dtype, device=like.device)).double().cpu()
        return torch.linalg.eigvalsh((whole + whole.T) / 2).flip(0)[:count]

    def product(vector: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(vector.reshape(1, n)).to(like)
        return products(given)[0].double().cpu().numpy()

    first = torch.randn(n, dtype=torch.float64, generator=generator).numpy()
    matrix = LinearOperator((n, n), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    options: dict[str, Any] = {"which": "LA", "v0": first, "tol": _TOLERANCE, "maxiter": _RESTARTS}
    try:
        found = eigsh(matrix, count, return_eigenvectors=False, **options)
    except ArpackNoConvergence as error:
        raise CompressitError(
            f"the {count} largest eigenvalues of the Hessian were not found in {_RESTARTS} restarts, only "
            f"{len(error.eigenvalues)}",
            "ask for fewer `eigenvalues`, or compute in `precision: fp64`",
        ) from error
    return torch.from_numpy(np.sort(found)[::-1].copy())


def signs(like: Tensor, count: int, generator: Generator) -> Tensor:
    """Vectors (count, n) of random signs, scaled to length 1."""
    drawn = torch.randint(2, (count, len(like)), generator=generator).to(like)
    return (2 * drawn - 1) / sqrt(len(like))


def quadrature_of(products: Products, starts: Tensor, steps: int) -> Quadrature:
    """What Lanczos' method sees of the eigenvalues from each of `starts` (probes, n), of length 1; in float64.

    Stochastic Lanczos quadrature (Golub & Meurant 2010; for nets Ghorbani, Krishnan & Xiao 2019), all probes at once.
    It does not make vectors orthogonal again, which costs memory for all of them: the nodes that then come twice share
    their weight (Chen, Trogdon & Ubaru 2021). The first step gives Hutchinson's (1990) estimate of the trace.
    """
    n = starts.shape[1]
    steps = min(steps, n)
    diagonal = torch.zeros(len(starts), steps, dtype=torch.float64)
    beside = torch.zeros(len(starts), steps, dtype=torch.float64)
    before, now, length = torch.zeros_like(starts), starts, torch.zeros_like(starts[:, :1])
    largest = torch.zeros_like(length)
    for step in range(steps):
        after = products(now) - length * before
        along = (after * now).sum(1, keepdim=True)
        after = after - along * now
        length = after.norm(dim=1, keepdim=True)
        largest = torch.maximum(largest, along.abs() + length)
        # nothing is left to see: what follows is zero, and has no weight
        length = length * (length > n * torch.finfo(starts.dtype).eps * largest)
        diagonal[:, step], beside[:, step] = along[:, 0].double().cpu(), length[:, 0].double().cpu()
        before, now = now, torch.where(length > 0, after / length, 0)
    nodes, vectors = torch.linalg.eigh(
        torch.diag_embed(diagonal)
        + torch.diag_embed(beside[:, :-1], offset=1)
        + torch.diag_embed(beside[:, :-1], offset=-1)
    )
    return Quadrature(nodes, vectors[:, 0] ** 2, diagonal[:, 0] * n)
