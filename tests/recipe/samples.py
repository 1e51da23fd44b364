"""What the recipe tests share."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from compressit.checkpoint.header import KEY, tensors_digest
from compressit.checkpoint.manifest import Manifest, encode
from compressit.errors import Problem
from compressit.recipe.model import Recipe

BASE = """\
version: 1
name: demo
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  fit: {uses: tiny.train}
"""

UNTIL_STAGES = BASE.replace("  fit: {uses: tiny.train}\n", "")
"""The first stage goes on line 6."""

Parse = Callable[..., Recipe]
Problems = Callable[..., list[Problem]]


def told(problems: list[Problem]) -> list[str]:
    """The first line of every problem: `file:line:column: message`."""
    return [str(problem).split("\n")[0] for problem in problems]


def write_checkpoint(path: Path, **fields: Any) -> None:
    """A checkpoint without any tensor that says of itself what fits tiny.data, and `fields`."""
    model = {
        "name": "tiny.mlp",
        "config": {},
        "inputs": {"shape": [1, 2, 3], "dtype": "float32", "low": 0.0, "high": 1.0},
        "outputs": 3,
        "owner": "tiny_plugins.py",
    }
    manifest = Manifest.of(
        **{"model": model, "input": None, "tensors_sha256": tensors_digest([]), "versions": {}, **fields}
    )
    table = json.dumps({"__metadata__": {KEY: encode(manifest)}}).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table)


MLP = {"1.weight": (12, 6), "1.bias": (12,), "4.weight": (3, 12), "4.bias": (3,)}
"""The tensors of `tiny.mlp` for `tiny.data`."""


def write_weights(path: Path, **changes: tuple[int, ...] | None) -> None:
    """A plain safetensors file with zeros for `tiny.mlp`, some of other shapes or, with None, left out."""
    shapes = {name: shape for name, shape in {**MLP, **changes}.items() if shape is not None}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)
