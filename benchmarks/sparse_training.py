"""Trainings that keep zeros, or make them, against the same training of the dense net.

    python benchmarks/sparse_training.py [--rounds 5] [--steps 600] [--every 100] [--threads 1]

LeNet-300-100 on random images of 1 x 28 x 28, batch 128, Adam, 98 % of the weights.

- `kept`: `train.supervised` of the net after pruning.
- `magnitude`, `lamp`, `movement`: `prune.magnitude` during that training, every `--every` steps.
- `fading`: `prune.sparse_momentum`, which ranks all weights in every step, with its own optimizer and batches of 256;
  against as many steps of the dense net with these.

In each round all of them run once, one after the other. Prints the ratio to the dense training of the same round,
median (least to most), of the processor's time.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import compressit
from compressit_plugins.prune.masks import prune_smallest

SPARSITY = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100, help="steps between two prunings")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12_800, 1, 28, 28), generator=draws, dtype=torch.uint8)
    data = compressit.data(train=(images, torch.randint(0, 10, (12_800,), generator=draws)))
    dense = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    pruned = copy.deepcopy(dense)
    prune_smallest(pruned, SPARSITY)
    fit = {"steps": options.steps, "batch_size": 128, "optimizer": {"name": "adam", "lr": 0.001}}
    trainings = {
        "dense": lambda: compressit.stage("train.supervised", **fit)(dense, data),
        "kept": lambda: compressit.stage("train.supervised", **fit)(pruned, data),
    } | {
        score: gradually(score, fit, options.every, dense, data)
        for score in ("magnitude", "lamp", "movement")
    }
    slow = {"steps": options.steps, "batch_size": 256}
    sgd = {"name": "sgd", "lr": 0.03, "momentum": 0.99, "weight_decay": 0.0005}
    trainings |= {
        "dense256": lambda: compressit.stage("train.supervised", optimizer=sgd, **slow)(dense, data),
        "fading": lambda: compressit.stage("prune.sparse_momentum", sparsity=SPARSITY, **slow)(dense, data),
    }
    against = {"dense256": "dense256", "fading": "dense256"}
    found: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(options.rounds):
        times: dict[str, float] = {}
        for name, train in trainings.items():
            since = time.process_time()
            train()
            times[name] = time.process_time() - since
        for name, seconds in times.items():
            found[name].append(seconds / times[against.get(name, "dense")])
        print(f"dense {times['dense']:.2f} s", flush=True)
    for name, ratios in found.items():
        print(f"{name:10} {statistics.median(ratios):.3f}x ({min(ratios):.3f} to {max(ratios):.3f})")


def gradually(
    score: str, fit: dict[str, object], every: int, net: nn.Module, data: compressit.Data
) -> Callable[[], nn.Module]:
    """A training that prunes by this score."""
    stage = compressit.stage(
        "prune.magnitude", sparsity=SPARSITY, score=score, gradual={"every": every}, finetune=fit
    )
    return lambda: stage(net, data)


if __name__ == "__main__":
    main()
