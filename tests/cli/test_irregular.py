"""Where a file is expected, nothing that blocks or never ends is waited for."""

from __future__ import annotations

import os

import pytest

from .sandbox import Sandbox

RECIPE = """version: 1
name: x
data: {uses: data.mnist, with: {root: .}}
model: {uses: model.mlp}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
"""
MODEL = "{uses: model.mlp}"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check pipe.yaml", 2),
        ("plan from.yaml", 2),
        ("run mnist.yaml --out out", 1),
        ("evaluate pipe.safetensors --data data.synthetic --plugin pipe.py --trust", 2),
        ("export pipe.safetensors --to folder", 2),
    ],
)
def test_a_pipe_in_a_files_place_is_said_to_be_none(sandbox: Sandbox, command: str, code: int) -> None:
    for name in ("pipe.yaml", "pipe.py", "pipe.safetensors", "train-images-idx3-ubyte.gz"):
        os.mkfifo(sandbox.folder / name)
    sandbox.write("mnist.yaml", RECIPE)
    sandbox.write("from.yaml", RECIPE.replace(MODEL, "{from: ./pipe.safetensors}"))
    said = sandbox.run(*command.split(), code=code).err
    assert "not a regular file" in said or "there is no file" in said
    assert "pipe" in said or "train-images" in said
