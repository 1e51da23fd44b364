"""`fit` against the loop one would write by hand: trainings of both, by turns in one process.

    python benchmarks/training.py [--steps 20000] [--epochs 3] [--threads 1] [--device cuda] [--only all]

- `mnist`: epochs (`--epochs`) of the 784-512-512-10 MLP on MNIST, batch 128.
- `one`: `--steps` epochs of one shuffled batch of 200 examples, 40-100-100-10 net.
- `all`: `--steps` full-batch steps of that net on 200 examples (`batch_size: all`), with saves.
- `convnet`, `resnet20`, `mobilenet`: `--images` steps of `model.convnet` on 1 x 28 x 28, of ResNet-20 (He et al. 2016)
  and MobileNetV2 on 3 x 32 x 32, batch 128, random images. The hand loop keeps the usual layout (NCHW).

All with SGD and momentum. Others use these machines too, so the loops take turns every 50 steps (with images, every
2): the loss that `fit` calls runs as many steps of the other loop. Prints the ratio of the whole times, then the
median, 10th and 90th percentile of the ratios of the turns; on the clock and of the processor (which leaves out the
time that saves wait for the disk).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

import compressit
from compressit.contract.compute import Compute
from compressit.contract.context import Progress, StageContext
from compressit.contract.fit import fit
from compressit.contract.fit_options import FitConfig, OptimizerConfig
from compressit.seeds import Streams
from compressit.store.objects import Store
from compressit.store.progress import StoredProgress
from compressit_plugins.models.nets import convnet

SGD = OptimizerConfig(name="sgd", lr=0.01, momentum=0.9)
TURN = 50  # steps
FEW = 2  # with images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="of MNIST")
    parser.add_argument("--steps", type=int, default=20_000, help="of the short ones")
    parser.add_argument("--images", type=int, default=60, help="steps with images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--only", action="append", help="some of the trainings")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compute = Compute.select(options.device, options.precision)
    cases: dict[str, Callable[[], Turns]] = {
        "mnist": lambda: mnist(compute, options.epochs),
        "one": lambda: one_batch(compute, options.steps),
        "all": lambda: full_batch(compute, options.steps),
        "convnet": lambda: images(
            compute, options.images, partial(convnet, (1, 28, 28), 10, (16, 32, 64)), 1, 28
        ),
        "resnet20": lambda: images(compute, options.images, resnet20, 3, 32),
        "mobilenet": lambda: images(compute, options.images, partial(mobilenet_v2, num_classes=10), 3, 32),
    }
    for name in options.only or cases:
        report(name, cases[name]())


class Turns:
    """A loss for `fit` that gives a loop written by hand its turn every so many steps, and takes both times."""

    def __init__(self, by_hand: Iterator[None], compute: Compute, turn: int) -> None:
        self._by_hand = by_hand
        self.turn = turn
        self._compute = compute
        self._steps = 0
        self._since = self._now()
        self.times: list[tuple[list[float], list[float]]] = []  # of both loops, on both clocks, by turns

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.step()
        return F.cross_entropy(outputs, targets)

    def step(self) -> None:
        """Counts a step of `fit`, before its loss."""
        self._steps += 1
        if not self._steps % self.turn:
            ended = self._now()
            for _ in range(self.turn):
                next(self._by_hand)
            now = self._now()
            self.times.append((_between(self._since, ended), _between(ended, now)))
            self._since = now

    def _now(self) -> list[float]:
        if self._compute.device == "cuda":
            torch.cuda.synchronize()
        return [time.perf_counter(), time.process_time()]


def _between(start: list[float], end: list[float]) -> list[float]:
    return [b - a for a, b in zip(start, end, strict=True)]


def report(name: str, turns: Turns) -> None:
    times = turns.times[2:]  # the first ones warm up
    steps = len(times) * turns.turn
    for clock, told in enumerate(("on the clock", "of the processor")):
        ours, hand = ([way[clock] for way in ways] for ways in zip(*times, strict=True))
        ratios = [a / b for a, b in zip(ours, hand, strict=True)]
        low, *_, high = statistics.quantiles(ratios, n=10)
        spread = f"median {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        step = f"{1e6 * sum(hand) / steps:.0f} µs a step by hand {told}"
        print(f"{name:6} whole {sum(ours) / sum(hand):.3f}, {spread}; {step}", flush=True)


def train(
    compute: Compute,
    config: FitConfig,
    net: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    progress: Progress,
    turn: int = TURN,
) -> Turns:
    size = None if config.batch_size == "all" else config.batch_size
    turns = Turns(by_hand(net(), x, y, size, compute), compute, turn)
    context = StageContext(
        compute,
        Streams(0, "train"),
        lambda: compressit.data("data.mnist"),
        lambda ref: nn.Identity(),
        progress=progress,
    )
    fit(net(), context, config, lambda epoch: (x, y), turns.loss)
    return turns


def mnist(compute: Compute, epochs: int) -> Turns:
    x, y = (tensor.to(compute.device) for tensor in compressit.data("data.mnist").train.tensors())
    config = FitConfig(epochs=epochs, batch_size=128, optimizer=SGD)
    return train(compute, config, partial(net, compute, 784, 512), x, y, Progress())


def one_batch(compute: Compute, steps: int) -> Turns:
    config = FitConfig(epochs=steps, batch_size=200, optimizer=SGD)
    return train(compute, config, partial(net, compute), *examples(compute), Progress())


def full_batch(compute: Compute, steps: int) -> Turns:
    config = FitConfig(steps=steps, batch_size="all", optimizer=SGD)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.require_writable()
        progress = StoredProgress(store, "0" * 64, every=10.0, warn=print)
        return train(compute, config, partial(net, compute), *examples(compute), progress)


def images(compute: Compute, steps: int, net: Callable[[], nn.Module], channels: int, side: int) -> Turns:
    torch.manual_seed(0)
    x = torch.rand(1280, channels, side, side).to(compute.device)
    y = torch.randint(10, (1280,)).to(compute.device)
    config = FitConfig(steps=steps, batch_size=128, optimizer=SGD)

    def made() -> nn.Module:
        torch.manual_seed(0)
        return net().to(compute.device)

    return train(compute, config, made, x, y, Progress(), FEW)


class Block(nn.Module):
    """A basic block; the shortcut drops every second pixel and adds channels of zeros (option A of the paper)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.step, self.more = width // inputs, width - inputs
        self.conv1 = nn.Conv2d(inputs, width, 3, self.step, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        x = F.pad(x[:, :, :: self.step, :: self.step], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return F.relu(x + y)


def resnet20() -> nn.Module:
    blocks = [
        Block(max(16, width // 2 if not at else width), width) for width in (16, 32, 64) for at in range(3)
    ]
    first = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def examples(compute: Compute) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(200, 40).to(compute.device), torch.randint(10, (200,)).to(compute.device)


def net(compute: Compute, inputs: int = 40, hidden: int = 100) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    return nn.Sequential(nn.Flatten(), *layers).to(compute.device)


def by_hand(net: nn.Module, x: Tensor, y: Tensor, size: int | None, compute: Compute) -> Iterator[None]:
    """A step each time. `size`: examples in a batch; None: all of them at once, as they are."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    while True:
        for index in [None] if size is None else torch.randperm(len(x)).to(x.device).split(size):
            inputs, targets = (x, y) if index is None else (x[index], y[index])
            optimizer.zero_grad()
            with compute.autocast():
                loss = F.cross_entropy(net(inputs), targets)
            loss.backward()
            optimizer.step()
            yield


if __name__ == "__main__":
    main()
