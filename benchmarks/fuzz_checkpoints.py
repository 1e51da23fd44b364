"""Loads mutated checkpoints, as tests/checkpoint/test_fuzz.py does, but many more.

    python benchmarks/fuzz_checkpoints.py [--count 20000] [--seed 1000]

Ends with the first mutation that does anything but load as what it says or be refused with its file's name;
that file is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from checkpoint.fuzzing import fuzz
from checkpoint.samples import CONV, HEADS, MLP, TIED, TINY

from compressit.checkpoint.model import fresh, save
from compressit.plugins import Host


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="files to load")
    parser.add_argument("--seed", type=int, default=1000, help="the tests use 0 to 3")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    host = Host(entry_points=False)
    host.load_file(TINY)
    folder = Path(tempfile.mkdtemp(prefix="compressit-fuzz-"))
    originals = [folder / f"{architecture.name}.safetensors" for architecture in (MLP, CONV, TIED, HEADS)]
    for architecture, path in zip((MLP, CONV, TIED, HEADS), originals, strict=True):
        save(fresh(architecture, 0, host), path, architecture, host=host)
    before = time.monotonic()
    refused = fuzz(originals, host, arguments.count, arguments.seed, folder / "mutated.safetensors")
    seconds = time.monotonic() - before
    print(
        f"{arguments.count} mutated files, seed {arguments.seed}: {refused} refused, "
        f"{arguments.count - refused} loaded as what they say, in {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
