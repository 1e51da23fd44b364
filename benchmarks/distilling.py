"""`train.distill` against the loop one would write by hand: a student's steps, and its teacher's forward passes.

    python benchmarks/distilling.py [--steps 2000] [--threads 1] [--only augmented]

- `repeating`: the 784-512-512-10 MLP teaches the 784-256-256-10 one on MNIST, batch 128. By hand the teacher answers
  every batch; `train.distill` asks it once for all of them (that pass is printed beside, and not in the ratio).
- `augmented`: the same where images are moved by up to two pixels. Both loops get the same batches and ask each time.
- `convnets`: `model.convnet` of 16, 32 and 64 channels teaches one of half the widths, augmented too (fewer steps).

With Hinton's loss (T = 4, a tenth of the labels), SGD and momentum, by turns as in training.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training import FEW, SGD, TURN, Turns, report

import compressit
from compressit.contract.compute import Compute
from compressit.contract.context import StageContext
from compressit.contract.fit import fit
from compressit.datasets.splits import Data, Split
from compressit.seeds import Streams
from compressit_plugins.distill.taught import lesson
from compressit_plugins.models.nets import convnet, mlp
from compressit_plugins.train.distill import DistillConfig

CPU = Compute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", help="some of the cases")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mlps = [partial(mlp, (1, 28, 28), 10, (width, width)) for width in (512, 256)]
    nets = [partial(convnet, (1, 28, 28), 10, widths) for widths in ((16, 32, 64), (8, 16, 32))]
    plain, moved = {}, {"augment": [{"crop": 2}]}
    cases: dict[str, Callable[[], Turns]] = {
        "repeating": lambda: distil(*mlps, compressit.data("data.mnist", **plain), options.steps, TURN),
        "augmented": lambda: distil(*mlps, compressit.data("data.mnist", **moved), options.steps, TURN),
        "convnets": lambda: distil(*nets, compressit.data("data.mnist", **moved), options.steps // 20, FEW),
    }
    for name in options.only or cases:
        report(name, cases[name]())


def distil(
    teacher: Callable[[], nn.Module], student: Callable[[], nn.Module], data: Data, steps: int, turn: int
) -> Turns:
    """Both loops, by turns."""
    config = DistillConfig(teacher="train", steps=steps, optimizer=SGD)
    nets = [seeded(net) for net in (teacher, student, student)]
    ctx = StageContext(CPU, Streams(0, "distill"), lambda: data, lambda ref: nets[0])
    turns = Turns(by_hand(nets[0], nets[1], ctx.data.train), CPU, turn)
    begun = time.perf_counter()
    given = lesson(nets[2], ctx, config)
    print(f"the teacher's answers beforehand: {time.perf_counter() - begun:.2f} s")

    def loss(outputs: Tensor, *targets: Tensor) -> Tensor:
        turns.step()
        return given.loss(outputs, *targets)

    fit(given.student, ctx, config, given.examples, loss)
    return turns


def seeded(net: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return net()


def by_hand(teacher: nn.Module, student: nn.Module, train: Split) -> Iterator[None]:
    """A step each time."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, fused=True)
    teacher.eval()
    epoch = 0
    while True:
        for x, y in train.batches(128, epoch):
            with torch.no_grad():
                told = teacher(x)
            outputs = student(x)
            soft = F.kl_div(F.log_softmax(outputs / 4, 1), F.softmax(told / 4, 1), reduction="batchmean")
            optimizer.zero_grad()
            (0.9 * 16 * soft + 0.1 * F.cross_entropy(outputs, y)).backward()
            optimizer.step()
            yield
        epoch += 1


if __name__ == "__main__":
    main()
