"""What must hold for any file: it is refused by its name, or it loads as exactly what it says."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from compressit.checkpoint.edits import snapshot
from compressit.checkpoint.header import read_header
from compressit.checkpoint.manifest import SetEdit
from compressit.checkpoint.model import load
from compressit.checkpoint.tensors import same_bits, unpack
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from .child import taken
from .mutations import damaged, forged
from .watch import watched


def fuzz(
    originals: Mapping[Path, nn.Module | None],
    host: Host,
    numbers: range,
    seed: int,
    scratch: Path,
    measured: bool = False,
) -> int:
    """Loads mutations of these checkpoints in turn, the `numbers`-th of `seed`; returns how many were refused.

    A checkpoint that says how its network is built goes with None, another with a network to load it into. Raises
    AssertionError for a mutation that gives anything but a CompressitError that names the file, or the file's own
    tensors (of a merely damaged file: the original's), or that runs code, writes a file or hangs. `measured`: each is
    loaded in a process of its own, whose memory may grow by ten times the file and 200 MB.
    """
    files = [_Original(path, net, host) for path, net in originals.items()]
    refused = 0
    for number in numbers:
        draw = random.Random(f"{seed} {number}")
        original = files[number % len(files)]
        forging = draw.random() < 0.6
        content = original.content
        changed = forged(content, draw, original.numbers) if forging else damaged(content, draw)
        scratch.write_bytes(changed)
        expected = None if forging else original.state

        def work(
            net: nn.Module | None = original.net, expected: Mapping[str, Tensor] | None = expected
        ) -> str:
            return _outcome(scratch, copy.deepcopy(net), host, expected)

        try:
            if measured:
                took = taken(work)
                said = took.said
                most = 10 * len(changed) + 200 * 10**6
                assert took.memory <= most, f"it took {took.memory / 1e6:.0f} MB, not {most / 1e6:.0f}"
            else:
                said = work()
            refused += said == "refused"
        except Exception as error:
            kept = scratch.with_name(f"mutation-{seed}-{number}.safetensors")
            kept.write_bytes(changed)
            kind = "forged" if forging else "damaged"
            raise AssertionError(
                f"{kind} file {number} of seed {seed} ({kept}): {type(error).__name__}: {error}"
            ) from error
    return refused


def _outcome(scratch: Path, into: nn.Module | None, host: Host, expected: Mapping[str, Tensor] | None) -> str:
    """Raises AssertionError for a net with other tensors than expected (without any: than the file's)."""
    with watched() as events:
        model = _loaded(scratch, into, host)
    assert not events, events
    if model is None:
        return "refused"
    state = model.state_dict()
    assert all(same_bits(state[name], value) for name, value in (expected or _said(scratch)).items())
    return "loaded"


class _Original:
    """A checkpoint as it was saved."""

    def __init__(self, path: Path, net: nn.Module | None, host: Host) -> None:
        model = load(path, copy.deepcopy(net), host)
        self.content = path.read_bytes()
        self.net = net
        self.state = model.state_dict()
        edits = [edit for edit in snapshot(model, ()) if isinstance(edit, SetEdit)]
        self.numbers = [(edit.at, name, value) for edit in edits for name, value in edit.attrs.items()]


def _said(path: Path) -> dict[str, Tensor]:
    return unpack(load_file(path), read_header(path).manifest.compact)


def _loaded(path: Path, into: nn.Module | None, host: Host) -> nn.Module | None:
    refusal = ""
    try:
        return load(path, into, host)
    except CompressitError as error:
        refusal = str(error)
    assert str(path) in refusal
    return None
