"""What must hold for any file: it is refused by its name, or it loads as exactly what it says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from compressit.checkpoint.compact import unpack
from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import load
from compressit.checkpoint.tensors import same_bits
from compressit.errors import CompressitError
from compressit.plugins import Host

from .mutations import damaged, forged
from .watch import watched


def fuzz(originals: Sequence[Path], host: Host, count: int, seed: int, scratch: Path) -> int:
    """Loads `count` mutations of these checkpoints in turn; returns how many were refused.

    Raises AssertionError for a mutation that gives anything but a CompressitError that names the file, or the
    file's own tensors (of a merely damaged file: the original's), or that runs code, writes a file or hangs.
    """
    contents = [path.read_bytes() for path in originals]
    known = [load(path, host=host).state_dict() for path in originals]
    refused = 0
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        which = number % len(contents)
        forging = draw.random() < 0.6
        changed = (forged if forging else damaged)(contents[which], draw)
        scratch.write_bytes(changed)
        try:
            with watched() as events:
                model = _loaded(scratch, host)
            assert not events, events
            if model is None:
                refused += 1
            else:
                expected = _said(scratch) if forging else known[which]
                state = model.state_dict()
                assert all(same_bits(state[name], value) for name, value in expected.items())
        except Exception as error:
            kept = scratch.with_name(f"mutation-{seed}-{number}.safetensors")
            kept.write_bytes(changed)
            kind = "forged" if forging else "damaged"
            raise AssertionError(
                f"{kind} file {number} of seed {seed} ({kept}): {type(error).__name__}: {error}"
            ) from error
    return refused


def _said(path: Path) -> dict[str, Tensor]:
    return unpack(load_file(path), read_header(path).manifest.compact)


def _loaded(path: Path, host: Host) -> nn.Module | None:
    refusal = ""
    try:
        return load(path, host=host)
    except CompressitError as error:
        refusal = str(error)
    assert str(path) in refusal
    return None
