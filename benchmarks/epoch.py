"""An epoch of the 784-512-512-10 MLP on MNIST, batch 128, SGD with momentum: three ways, in turn, in one process.

    python benchmarks/epoch.py [--epochs 3] [--threads 2] [--device cuda]

`fit` is the loop every compressit stage runs; `by hand` the shortest in-memory loop one would write; `DataLoader` the
usual torchvision one (ToTensor per image, two workers). Prints seconds per epoch of each, and the ratios round by
round: these machines are noisy, so only figures of one round are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import compressit
from compressit.contract.compute import Compute
from compressit.contract.context import StageContext
from compressit.contract.fit import fit
from compressit.contract.fit_options import FitConfig, OptimizerConfig
from compressit.seeds import Streams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--no-loader", action="store_true", help="leave the DataLoader loop out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compute = Compute.select(options.device)
    data = compressit.data("data.mnist")
    x, y = (tensor.to(compute.device) for tensor in data.train.tensors())
    context = StageContext(compute, Streams(0, "train"), lambda: data, lambda ref: nn.Identity())
    config = FitConfig(epochs=1, batch_size=128, optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.9))
    ways: dict[str, Callable[[nn.Module], object]] = {
        "by hand": lambda net: by_hand(net, x, y),
        "fit": lambda net: fit(net, context, config, lambda epoch: (x, y), nn.functional.cross_entropy),
    }
    if not options.no_loader:
        ways["DataLoader"] = loader_loop
    limit = matrix_limit(compute.device)
    rounds = [
        {name: timed(way, compute.device) for name, way in ways.items()} for _ in range(options.epochs + 1)
    ][1:]
    for name in ways:
        print(f"{name:12} {statistics.median(r[name] for r in rounds):7.2f} s an epoch")
    print(f"{'matrix limit':12} {limit:7.2f} s (its products alone at this machine's measured rate)")
    report("fit / by hand", [r["fit"] / r["by hand"] for r in rounds])
    if not options.no_loader:
        report("DataLoader / fit", [r["DataLoader"] / r["fit"] for r in rounds])


def report(name: str, ratios: list[float]) -> None:
    print(f"{name}: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


def timed(way: Callable[[nn.Module], object], device: str) -> float:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ).to(device)
    wait(device)
    started = time.perf_counter()
    way(net)
    wait(device)
    return time.perf_counter() - started


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    for index in torch.randperm(len(x)).to(x.device).split(128):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[index]), y[index]).backward()
        optimizer.step()


def loader_loop(net: nn.Module) -> None:
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    loader = DataLoader(
        MNIST(_torchvision_root(), transform=ToTensor()), batch_size=128, shuffle=True, num_workers=2
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    device = next(net.parameters()).device
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images.to(device)), labels.to(device)).backward()
        optimizer.step()


def _torchvision_root() -> Path:
    """torchvision wants its files in MNIST/raw: links to the verified ones in the cache."""
    import tempfile

    from compressit.paths import default_cache

    root = Path(tempfile.gettempdir()) / "compressit-bench-mnist"
    (root / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
    for file in (default_cache() / "mnist").glob("*ubyte"):
        link = root / "MNIST" / "raw" / file.name
        if not link.exists():
            link.symlink_to(file)
    return root


def matrix_limit(device: str) -> float:
    """Seconds for the MACs of one epoch (forward once, backward twice) at the rate of a large product."""
    a, b = torch.randn(2, 2048, 2048, device=device)
    a @ b
    wait(device)
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    wait(device)
    rate = 10 * 2048**3 / (time.perf_counter() - started)
    return 60000 * (3 * (784 * 512 + 512 * 512 + 512 * 10) - 784 * 512) / rate


if __name__ == "__main__":
    main()
