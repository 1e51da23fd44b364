"""Peak memory of the pruning plugins, in multiples of the net.

    python benchmarks/memory.py [--network vgg16] [--side 64] [--only structured]

Each function runs in a process of its own that has loaded torch, the network and what the plugin imports. Prints its
peak resident memory beyond what the process had before the network was made, divided by the bytes of the network's
parameters and buffers: the network itself counts once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import resource
from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision
from torch import nn


def structured(net: nn.Module, side: int) -> None:
    """`prune.structured`, half of the MACs."""
    from compressit_plugins.prune.channels import prune_channels

    prune_channels(net, torch.zeros(1, 3, side, side), 0.5, target="macs")


def magnitude(net: nn.Module, side: int) -> None:
    """`prune.magnitude`, half of the weights, as a stage calls it: with what the host remembers of the net."""
    del side
    from compressit.contract.compute import Compute
    from compressit.contract.context import StageContext
    from compressit.running.apply import apply_plugin
    from compressit.seeds import Streams
    from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig

    def nothing(*_: object) -> NoReturn:
        raise AssertionError("it needs no data and no teacher")

    ctx = StageContext(Compute("cpu"), Streams(0, "prune"), nothing, nothing)
    apply_plugin(Magnitude(MagnitudeConfig(sparsity=0.5)), net, ctx)


PLUGINS: dict[str, Callable[[nn.Module, int], None]] = {"structured": structured, "magnitude": magnitude}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="vgg16", help="a network of torchvision")
    parser.add_argument("--side", type=int, default=64, help="pixels of its square images")
    parser.add_argument("--only", choices=PLUGINS, action="append", help="these plugins")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for name in options.only or PLUGINS:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(name, options.network, options.side, sender))
        process.start()
        size, peak = receiver.recv()
        process.join()
        print(
            f"{name:12} {options.network}: peak {peak / 2**20:.0f} MiB beside {size / 2**20:.0f} MiB of the net, "
            f"{peak / size:.2f}x"
        )


def measure(name: str, network: str, side: int, sender: multiprocessing.connection.Connection) -> None:
    """Sends the network's bytes and the peak of its plugin."""
    torch.set_num_threads(1)
    small = torchvision.models.squeezenet1_1(weights=None, num_classes=10).eval()
    PLUGINS[name](small, 64)  # everything is imported, and every pool of memory there
    before = peak_bytes()
    net = torchvision.models.get_model(network, weights=None).eval()
    size = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    PLUGINS[name](net, side)
    sender.send((size, peak_bytes() - before))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
