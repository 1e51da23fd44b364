"""Loads checkpoints in a process that did not save them, and says what it got.

As a script it reads paths, one a line, and answers each with a line of JSON: what `fingerprint` gives of the
loaded model, or the error.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header, tensors_digest
from compressit.checkpoint.probe import outputs, probe_input
from compressit.checkpoint.tensors import parts
from compressit.errors import CompressitError
from compressit.host.plugins import Host


def loaded_elsewhere(paths: Sequence[Path], plugins: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """`fingerprint`s of the models in these files, from one process that made none of them, with as many threads as
    this one."""
    import warm  # which the script does not find

    arguments = [__file__, str(torch.get_num_threads()), *map(str, plugins)]
    given = "".join(f"{path}\n" for path in paths)
    done = warm.python(*arguments, cwd=Path.cwd(), env=os.environ, given=given)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def start(plugins: Iterable[Path] = ()) -> subprocess.Popen[str]:
    """The fresh process: with these local plugin files, or else with everything installed."""
    command = [sys.executable, __file__, str(torch.get_num_threads()), *map(str, plugins)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fingerprint(model: nn.Module, path: Path) -> dict[str, Any]:
    """Digests of a model's state and of its outputs, bit for bit, for an input other than the file's probe."""
    manifest = read_header(path).manifest
    assert manifest.probe is not None
    assert manifest.model is not None
    x = probe_input(manifest.inputs, getattr(torch, manifest.probe.dtype)).flip(0)
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    digest = hashlib.sha256()
    for output in outputs(model.eval(), x):
        digest.update(output.contiguous().numpy().tobytes())
    return {"state": tensors_digest(parts(state)), "outputs": digest.hexdigest()}


def holds_no_code(path: Path) -> bool:
    """Whether a file is a printable header and exactly the tensors that it names: no room for a pickle."""
    header, content = read_header(path), path.read_bytes()
    tensors = sum(info.offsets[1] - info.offsets[0] for info in header.tensors.values())
    text = content[8 : header.start]
    return all(32 <= byte < 127 for byte in text) and header.start + tensors == len(content)


def _serve(threads: int, plugins: Sequence[str]) -> None:
    torch.set_num_threads(threads)
    host = Host(entry_points=not plugins)
    for plugin in plugins:
        host.load_file(Path(plugin))
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            answer = fingerprint(checkpoint.load(path, host=host), path)
        except CompressitError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2:])
