"""`compressit import`: from a file that people have to a recipe that starts from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from compressit.datasets.specs import TensorSpec
from compressit_plugins.models.mlp import Mlp, MlpConfig

from .sandbox import Sandbox, rows

RECIPE = """\
version: 1
name: onward
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic}
model: {uses: model.mlp, weights: mine.safetensors}
stages:
  tune: {uses: train.supervised, with: {epochs: 1}}
evaluate: [eval.size]
"""


@pytest.fixture
def mine(sandbox: Sandbox) -> Path:
    """A training's checkpoint of `model.mlp` for 7 classes."""
    net = Mlp(MlpConfig()).build(TensorSpec((1, 8, 8)), 7)
    file = sandbox.folder / "mine.pth"
    torch.save(
        {"state_dict": nn.DataParallel(net).state_dict(), "epoch": 3, "optimizer": {"state": {}}}, file
    )
    return file


def test_from_a_file_to_a_run_with_a_new_head(sandbox: Sandbox, mine: Path) -> None:
    done = sandbox.run("import", "mine.pth", "-o", "mine.safetensors")
    assert "took `state_dict`\nleft out: epoch (int), optimizer (dict)\nrenamed: " in done.out
    assert done.out.endswith("next, in a recipe: model: {uses: …, weights: mine.safetensors}\n")
    assert done.err == ""
    sandbox.write("recipe.yaml", RECIPE)
    told = sandbox.light("check", "recipe.yaml", code=2).err
    assert "recipe.yaml:5:35: model.weights: mine.safetensors: these weights do not fit the model" in told
    assert "output.weight (7, " in told
    assert 'fresh: ["output.*"]' in told
    sandbox.write(
        "recipe.yaml",
        RECIPE.replace("mine.safetensors", '{file: mine.safetensors, fresh: ["output.*"]}'),
    )
    assert "is fine" in sandbox.light("check", "recipe.yaml").out
    sandbox.run("run", "recipe.yaml", "--out", "out")
    init, _ = rows(sandbox.folder / "out")
    assert init["stage"] == "init"
    given = load_file(sandbox.folder / "mine.safetensors")
    start = load_file(sandbox.folder / "out" / init["checkpoint"])
    assert start.keys() == given.keys()
    same = {
        name for name in start if start[name].shape == given[name].shape and start[name].equal(given[name])
    }
    assert same == {name for name in given if not name.startswith("output.")}


def test_without_out_it_is_beside_the_file_and_replaces_what_was_there(sandbox: Sandbox, mine: Path) -> None:
    sandbox.write("mine.safetensors", "old")
    assert "wrote mine.safetensors" in sandbox.run("import", "mine.pth").out
    assert load_file(sandbox.folder / "mine.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.pth"], "gone.pth: No such file or directory"),
        (["."], "is a folder"),
        (["mine.pth", "-o", "x.pth"], "--out x.pth: give a file name that ends in .safetensors"),
        (["mine.safetensors"], "mine.safetensors is the file itself"),
        (["mine.pth", "--take", "sate_dict"], "did you mean 'state_dict'?"),
        (["mine.pth", "-o", "mine.pth/x.safetensors"], "mine.pth/x.safetensors"),
        (["torchvision:resnt18"], "did you mean 'resnet18'"),
        (["torchvision:resnet18", "--take", "x"], "--take and --keep-names are for files"),
        (["nothing:resnet18"], "no model is called 'model.nothing'"),
        (["text.pth"], "text.pth: not a file that `torch.save` wrote"),
        (["pipe"], "not a regular file"),
        ([], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake(arguments: list[str], words: str, sandbox: Sandbox, mine: Path) -> None:

    sandbox.write("text.pth", "some text")
    os.mkfifo(sandbox.folder / "pipe")
    before = sorted(path.name for path in sandbox.folder.iterdir())
    done = sandbox.run("import", *arguments, code=2)
    assert words in done.err
    assert done.out == ""
    assert sorted(path.name for path in sandbox.folder.iterdir()) == before


def test_help_needs_no_torch(sandbox: Sandbox) -> None:
    assert "LIBRARY:NAME" in sandbox.light("import", "--help").out


def test_with_a_model_the_file_describes_itself(sandbox: Sandbox, mine: Path) -> None:
    done = sandbox.run(
        "import", "mine.pth", "--model", "model.mlp", "--set", "hidden=[512, 512]", "--input", "1x8x8"
    )
    assert "next, in a recipe: model: {from: mine.safetensors}\n" in done.out
    assert "fresh" in done.out.splitlines()[-1], "how it gets other classes"
    assert "(1, 8, 8), 7 outputs" in sandbox.run("inspect", "mine.safetensors").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "hidden=[4]"], "--set goes with --model"),
        (["--model", "model.mlp"], "--model needs --input"),
        (["--model", "model.mlp", "--input", "1x8xq"], "import.input.2 must be a whole number"),
        (["--model", "model.mlp", "--input", "64", "--set", "hiden=[4]"], "unknown key 'hiden'"),
        (["--model", "model.nlp", "--input", "64"], "no model is called 'model.nlp'"),
    ],
)
def test_what_is_told_with_a_model_is_checked(
    sandbox: Sandbox, mine: Path, arguments: list[str], words: str
) -> None:
    assert words in sandbox.run("import", "mine.pth", *arguments, code=2).err
