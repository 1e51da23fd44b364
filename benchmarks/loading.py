"""Loading a checkpoint of 25 M parameters beside the least that could do it.

    python benchmarks/loading.py [--network resnet50] [--rounds 5] [--threads 1]

`compressit.load` checks the header and the digest of all tensors, builds the network, applies edits, puts the tensors
in and compares outputs for a small input with the recorded ones. Beside it, on the same file: building the network and
`safetensors.torch.load_file` with `load_state_dict(assign=True)`, which checks nothing. Prints seconds and the ratio,
round by round, and what of it the digest and the probe take.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

import compressit
from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import verify
from compressit.checkpoint.manifest import Architecture
from compressit.host.plugins import installed

SHAPE, CLASSES = (3, 64, 64), 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="compressit.load beside load_file and building the network")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    architecture = Architecture("model.torchvision", {"name": options.network}, SHAPE, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.safetensors"
        net = checkpoint.build(architecture, installed())
        checkpoint.save(net, file, architecture)
        ways: dict[str, Callable[[], object]] = {
            "load_file + building": lambda: by_hand(architecture, file),
            "compressit.load": lambda: compressit.load(file),
            "  without its probe": lambda: checkpoint.load(file, probe=False),
            "  the digest alone": lambda: verify(file),
        }
        rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(options.rounds + 1)][1:]
    count = sum(p.numel() for p in net.parameters())
    print(f"{options.network}: {count / 1e6:.1f} M parameters, {options.threads} thread(s)")
    for name in ways:
        ratios = [r[name] / r["load_file + building"] for r in rounds]
        print(
            f"{name:22} {statistics.median(r[name] for r in rounds):6.2f} s; "
            f"{statistics.median(ratios):.2f}x, from {min(ratios):.2f} to {max(ratios):.2f}"
        )


def by_hand(architecture: Architecture, file: Path) -> torch.nn.Module:
    """What has to be done at least."""
    net = checkpoint.build(architecture, installed())
    net.load_state_dict(load_file(file), assign=True)
    return net.eval()


def seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
