"""How often, and how fast, `prune_channels` finds the widths at which a net takes a fraction of its time.

    python benchmarks/latency.py [--rounds 3] [--keep 0.5] [--batch 1] [--device cuda] [--nets mlp-512 resnet18-64]

Prints, for each net and round, the fraction reached, as measured once more after the search, and the seconds taken.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torchvision.models import resnet18

from compressit.errors import CompressitError
from compressit_plugins.prune.channels import prune_channels

NETS = ("mlp-512", "mlp-2048", "resnet18-64", "resnet18-224")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.nets:
        for _ in range(options.rounds):
            net, example = made(name, options.batch)
            started = time.perf_counter()
            try:
                net, example = net.to(options.device), example.to(options.device)
                _, report = prune_channels(net, example, options.keep, target="latency")
                result = f"{report.achieved:.3f} of its time"
            except CompressitError as error:
                result = error.message
            print(f"{name:14} {time.perf_counter() - started:6.1f} s   {result}", flush=True)


def made(name: str, batch: int) -> tuple[nn.Module, torch.Tensor]:
    """A net with fresh weights, and inputs for it."""
    torch.manual_seed(0)
    kind, size = name.split("-")
    if kind == "resnet18":
        return resnet18(num_classes=10), torch.zeros(batch, 3, int(size), int(size))
    width = int(size)
    layers = nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    return nn.Sequential(*layers), torch.zeros(batch, 784)


if __name__ == "__main__":
    main()
