"""ResNet-18 (224 x 224) pruned to half its MACs: our search beside Torch-Pruning's own iterative loop.

    python benchmarks/structured.py [--rounds 3] [--threads 1] [--steps 10 20 50 100] [--network resnet18] [--keep 0.5]

Both start from the same net with fresh weights, score channels by group L2 magnitude within each group, and train
nothing. `compressit` traces once, searches and checks the result; the loop builds a BasePruner with `--steps` iterative
steps towards no channels at all and, like Torch-Pruning's own examples, steps and counts with its counter until the
target is reached. Small step counts overshoot. What both reach is then counted by the same counter (compressit's).
Prints seconds, what is left, and the ratio compressit / loop, round by round: only figures of one round are compared.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch_pruning as tp
import torchvision
from torch import Tensor, nn

from compressit.contract.measure import macs
from compressit_plugins.prune.channels import prune_channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100], help="of the loop")
    parser.add_argument("--network", default="resnet18", help="a torchvision network that ends in `fc`")
    parser.add_argument("--keep", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    parent = torchvision.models.get_model(options.network, weights=None).eval()
    x = torch.zeros(1, 3, 224, 224)
    whole = macs(parent, x.shape[1:])
    ways: dict[str, Callable[[nn.Module], object]] = {
        "compressit": lambda net: prune_channels(net, x, options.keep, target="macs")
    }
    for steps in options.steps:
        ways[f"loop of {steps}"] = lambda net, steps=steps: iterate(net, x, options.keep, steps)
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds + 1):
        seconds: dict[str, float] = {}
        for name, way in ways.items():
            seconds[name], net = timed(way, parent)
            if number == 0:  # the round that warms up
                left = macs(net, x.shape[1:]) / whole
                print(f"{name:12} leaves {left:.4f} of the MACs", flush=True)
        if number:
            rounds.append(seconds)
    for name in ways:
        times = [r[name] for r in rounds]
        ratios = [r["compressit"] / r[name] for r in rounds]
        print(
            f"{name:12} {statistics.median(times):7.2f} s; compressit / it: median {statistics.median(ratios):.3f}, "
            f"from {min(ratios):.3f} to {max(ratios):.3f}"
        )


def timed(way: Callable[[nn.Module], object], parent: nn.Module) -> tuple[float, nn.Module]:
    net = copy.deepcopy(parent)
    started = time.perf_counter()
    way(net)
    return time.perf_counter() - started, net


def iterate(net: nn.Module, x: Tensor, keep: float, steps: int) -> None:
    """Torch-Pruning's documented loop: step, count, until there."""
    whole, _ = tp.utils.count_ops_and_params(net, x)
    pruner = tp.pruner.BasePruner(
        net,
        x,
        tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=1.0,
        iterative_steps=steps,
        ignored_layers=[net.fc],
    )
    for _ in range(steps):
        pruner.step()
        now, _ = tp.utils.count_ops_and_params(net, x)
        if now <= keep * whole:
            return


if __name__ == "__main__":
    main()
