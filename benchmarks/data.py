"""What the three ways to keep examples cost beside each other: an epoch's batches, and memory.

    python benchmarks/data.py [--images 20000] [--side 96] [--rounds 5] [--only memory]

Times one pass over an epoch's batches of random images, without a net, in turn: floats in memory, bytes in memory,
bytes with augmentation, a file of the cache; a torch DataLoader by hand and `streamed`. Then an epoch of training a
small convolutional net (`model.convnet`) in memory, from the file, and from it with flip and crop. Prints medians and
ratios round by round. Memory: peak of a process beyond what it takes once torch is imported, for one epoch from the
file.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from compressit.contract.compute import Compute
from compressit.contract.context import StageContext
from compressit.contract.fit import fit
from compressit.contract.fit_options import FitConfig
from compressit.datasets.options import IMAGENET, DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Examples, Sources
from compressit.datasets.splits import Split
from compressit.datasets.stored import stored
from compressit.datasets.streamed import Streamed
from compressit.seeds import Streams
from compressit_plugins.models.nets import convnet

BATCH = 128


class Images(Dataset[tuple[Tensor, int]]):
    """Random bytes, made anew for each item: nothing of them is kept."""

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(
            0, 256, (3, self.side, self.side), dtype=torch.uint8, generator=generator
        ), index % 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("batches", "training", "memory"))
    parser.add_argument("--epoch-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    images = Images(given.images, given.side)
    if given.epoch_of:
        _once(images, Path(given.epoch_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = stored(images, Path(folder), "images", 2, print)
        x = torch.stack([images[index][0] for index in range(min(2000, given.images))])
        if given.only in (None, "batches"):
            _times(_ways(images, file, x), given.rounds)
        if given.only in (None, "training"):
            _times(_trainings(file, x), given.rounds)
        if given.only not in (None, "memory"):
            return
        command = [sys.executable, __file__, "--images", str(given.images), "--side", str(given.side)]
        done = subprocess.run([*command, "--epoch-of", folder], check=True, capture_output=True, text=True)
        print(done.stdout, end="")


def _split(examples: Examples, **options: Any) -> Split:
    few = torch.zeros(10, 3, 8, 8), torch.arange(10)
    config = DataConfig.model_validate({"scale": "imagenet", **options})
    return prepare(Sources(examples, few), config, 10, tuple("abcdefghij")).train


def _ways(images: Images, file: Any, x: Tensor) -> dict[str, Callable[[], None]]:
    """Each reads one epoch of the same 2,000 examples."""
    y = torch.arange(len(x)) % 10
    augment = ["flip", {"crop": 4}]
    kept = _split(file, limit=len(x))
    some = Images(len(x), images.side)
    loader = DataLoader(some, BATCH, shuffle=True)

    def epoch(split: Split) -> Callable[[], None]:
        return lambda: [None for _ in split.batches(BATCH, 0)] and None

    return {
        "floats in memory": epoch(_split((x, y))),
        "bytes in memory": epoch(_split((x, y), augment=[{"erase": 1}])),
        "floats in memory, flip and crop": epoch(_split((x, y), augment=augment)),
        "a file": epoch(kept),
        "a file, flip and crop": epoch(_split(file, limit=len(x), augment=augment)),
        "DataLoader by hand": lambda: [_scaled(x) for x, _ in loader] and None,
        "streamed": epoch(_split(Streamed("images", some, file), limit=len(x))),
    }


def _trainings(file: Any, x: Tensor) -> dict[str, Callable[[], None]]:
    """Each trains the same net for one epoch of the same examples, as `fit` does."""
    split = partial(_split, limit=len(x))
    splits = {
        "floats in memory": split((x, torch.arange(len(x)) % 10)),
        "training from a file": split(file),
        "training from a file, flip and crop": split(file, augment=["flip", {"crop": 4}]),
    }

    def epoch(examples: Split) -> Callable[[], None]:
        torch.manual_seed(0)
        net = convnet((3, x.shape[-1], x.shape[-1]), 10, (16, 32, 64))
        nothing: Any = None
        ctx = StageContext(Compute(), Streams(0, "train"), nothing, nothing)
        options = FitConfig(epochs=1, batch_size=BATCH)
        return lambda: fit(net, ctx, options, examples, F.cross_entropy) and None

    return {name: epoch(examples) for name, examples in splits.items()}


def _scaled(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    return x.float().div_(255).sub_(mean).div_(std)


def _times(ways: dict[str, Callable[[], None]], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first warms up
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - started)
    for name, taken in seconds.items():
        base = seconds["DataLoader by hand" if name == "streamed" else "floats in memory"]
        ratio = statistics.median(one / other for one, other in zip(taken, base, strict=True))
        print(f"{name:34} {statistics.median(taken):7.3f} s   {ratio:5.2f}x")


def _once(images: Images, folder: Path) -> None:
    before = _kilobytes("VmRSS")
    split = _split(stored(images, folder, "images", 0, print), augment=["flip", {"crop": 4}])
    for _ in split.batches(BATCH, 0):
        pass
    more = (_kilobytes("VmHWM") - before) / 1024
    whole = images.count * 3 * images.side**2 / 2**20
    print(
        f"an epoch of {images.count:,} images ({whole:,.0f} MiB of bytes) takes {more:,.0f} MiB beyond torch"
    )


def _kilobytes(name: str) -> int:
    """Of this process. Not `ru_maxrss`, which begins with the memory of the process that started this one."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
