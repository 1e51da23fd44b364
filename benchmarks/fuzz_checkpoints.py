"""Loads mutated checkpoints, as tests/checkpoint/test_fuzz.py does, but many more.

    python benchmarks/fuzz_checkpoints.py [--count 20000] [--seed 1000]

Ends with the first mutation that does anything but load as what it says or be refused with its file's name: code
that runs, a traceback, a hang, a crash of native code, 12 GB of memory. That file is kept.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from checkpoint.fuzzing import fuzz
from checkpoint.layers import CONTRACT, Many
from checkpoint.samples import CONV, HEADS, MLP, TIED, TINY, TOKENS
from tiny import tiny_host
from torch import nn

from compressit.checkpoint.model import fresh, save
from compressit.host.plugins import Host

BLOCK = 200
"""Files a process loads: one that torch's native code ends is told by its number."""
SECONDS, BYTES = 600, 12 * 2**30
"""What a block may take: a hang in native code, and memory that no file explains, end it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="files to load")
    parser.add_argument("--seed", type=int, default=1000, help="the tests use 0 to 3")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    host = tiny_host()
    host.load_file(TINY)
    folder = Path(tempfile.mkdtemp(prefix="compressit-fuzz-"))
    originals: dict[Path, nn.Module | None] = {}
    for architecture in (MLP, CONV, TIED, HEADS, TOKENS):
        path = folder / f"{architecture.name}.safetensors"
        save(fresh(architecture, 0, host), path, architecture, host=host)
        originals[path] = None
    many = folder / "many.safetensors"
    save(net := Many(), many, contract=CONTRACT)
    originals[many] = net
    before, refused = time.monotonic(), 0
    for first in range(0, arguments.count, BLOCK):
        numbers = range(first, min(first + BLOCK, arguments.count))
        refused += in_a_child(originals, host, numbers, arguments.seed, folder / "mutated.safetensors")
    seconds = time.monotonic() - before
    print(
        f"{arguments.count} mutated files, seed {arguments.seed}: {refused} refused, "
        f"{arguments.count - refused} loaded as what they say, in {seconds:.0f} s"
    )


def in_a_child(
    originals: dict[Path, nn.Module | None], host: Host, numbers: range, seed: int, scratch: Path
) -> int:
    """As `fuzz`, in a forked process: what ends that, a signal for one, ends the benchmark with the file's name."""
    count = scratch.with_name("refused")
    sys.stdout.flush()
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        signal.alarm(SECONDS)
        ended = 1
        try:
            count.write_text(str(fuzz(originals, host, numbers, seed, scratch, measured=True)))
            ended = 0
        except AssertionError as error:
            print(error, flush=True)
        finally:
            os._exit(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        sys.exit(
            f"{how} in files {numbers.start} to {numbers.stop - 1} of seed {seed}; the last one is {scratch}"
        )
    return int(count.read_text())


if __name__ == "__main__":
    main()
