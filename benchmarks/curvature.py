"""Hessian-vector products of many directions together, against one by one; and the Hessian in a plane of 50 dimensions.

    python benchmarks/curvature.py [--rounds 3] [--images 2000] [--dimensions 50] [--threads 1]

- `plane`: the products of the Hessian of 784-200-200-10 with the basis of a random plane.
- `small`: the whole Hessian of 100-8-10 in float64, on 300 images.

One by one, each product has its own forward pass and graph of the gradient, as a loop of torch's `hvp`
would have them.

By turns, each once a round. Prints seconds of the processor, and the ratio of one by one to together in a round,
median (least to most).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from compressit.contract.classification import usual
from compressit.contract.compute import Compute
from compressit.contract.context import StageContext
from compressit.datasets.splits import Data
from compressit.python.data import data as make_data
from compressit.seeds import Streams
from compressit_plugins.landscape.plane import plane
from compressit_plugins.landscape.surface import Surface


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dimensions", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    large = surface_of([784, 200, 200, 10], nn.ReLU, options.images, torch.float32)
    small = surface_of([100, 8, 10], nn.Tanh, 300, torch.float64)
    basis = plane(large, options.dimensions, torch.Generator().manual_seed(0))
    whole = torch.eye(len(small), dtype=torch.float64)
    for name, surface, directions in (("plane", large, basis), ("small", small, whole)):
        compare(name, surface, directions, options.rounds)


def compare(name: str, surface: Surface, directions: Tensor, rounds: int) -> None:
    together, singly = [], []
    for _ in range(rounds):
        together.append(timed(lambda: surface.hvp(surface.start, directions)))
        singly.append(timed(lambda: [surface.hvp(surface.start, one[None]) for one in directions]))
    ratios = [alone / both for alone, both in zip(singly, together, strict=True)]
    print(f"{name}: {statistics.median(together):.2f} s; singly {statistics.median(singly):.2f} s")
    print(f"  singly / together {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


def surface_of(widths: list[int], activation: type[nn.Module], images: int, dtype: torch.dtype) -> Surface:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    data = made(widths[0], images)
    ctx = StageContext(Compute(), Streams(0, "curvature"), lambda: data, lambda ref: nn.Identity(), usual())
    return Surface.of(nn.Sequential(*layers[:-1]), ctx, images, dtype)


def made(width: int, images: int) -> Data:
    return make_data(train=(torch.rand(images, width), torch.arange(images) % 10))


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
