"""The words of typical messages, all in one file, so that they are read in one place: `wording.txt`.

Other tests ask for exit code, place and key words. After a change of words:
`COMPRESSIT_WORDING=write pytest -n 0 tests/cli/test_wording.py`, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressit import __version__
from compressit.cli import build
from compressit.errors import CompressitError, RecipeError
from compressit.host.plugins import installed

from .recipes import TINY

WORDING = Path(__file__).with_name("wording.txt")
CHANGES = {
    "a recipe without a mistake": ("", ""),
    "an unknown key": ("evaluate:", "evaluates:"),
    "an unknown option": ("hidden:", "hiden:"),
    "an unknown plugin": ("data.synthetic", "data.sintetic"),
    "a plugin of another kind": ("data.synthetic", "model.mlp"),
    "a value of another type": ("hidden: [20, 20]", "hidden: [many]"),
    "a value out of bounds": ("threads: 1", "threads: 0"),
    "a key that is there twice": ("name: tiny", "name: tiny\nname: again"),
    "a tab": ("  train: {uses", "\ttrain: {uses"),
    "stages that need each other": ("train.supervised,", "train.supervised, needs: blog,"),
    "a stage that is not there": ("needs: train, repeat", "needs: trian, repeat"),
    "a teacher that is not there": ("teacher: train", "teacher: trian"),
    "a metric of two evaluators": (
        "eval.size,",
        "eval.latency, {uses: eval.latency, with: {batch_sizes: [1]}},",
    ),
    "no validation split": ("epochs: 10,", "epochs: 10, patience: 3,"),
    "an option without effect": ("name: adam,", "name: adam, momentum: 0.9,"),
    "several mistakes": ("epochs: 10, batch_size: 64", "epochs: ten, batch_size: 0"),
    "a checkpoint that is not there": (
        "{uses: model.mlp, with: {hidden: [20, 20]}}",
        "{from: gone.safetensors}",
    ),
    "a plugin file that is not there": ("name: tiny", "name: tiny\nplugins: [./mine.py]"),
    "no recipe": (TINY, ""),
}
COMMANDS = (
    ("check", "gone.yaml"),
    ("check", "recipe.yaml", "--profile", "quikc"),
    ("check", "recipe.yaml", "--set", "stages.trian.with.epochs=3"),
    ("check", "recipe.yaml", "--set", "stages.train.with.epochs"),
    ("check", "local.yaml"),
    ("import", "gone.pth"),
    ("import", "recipe.yaml"),
    ("import", "mlp:small"),
    ("inspect", "recipe.yaml"),
    ("report", "."),
    ("plugins", "show", "prune.magnitud"),
    ("plugins", "check", "prune.magnitude", "--set", "sparsity=2"),
    ("new", "plugin", "mine"),
    ("new", "plugin", "prune.magnitude"),
    ("new", "recipe", "--model", "model.mlp"),
)


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What every command says, in a folder with a recipe and a plugin file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    told: list[str] = []
    for title, (old, new) in CHANGES.items():
        assert old in TINY
        Path("recipe.yaml").write_text(TINY.replace(old, new, 1) if old else TINY)
        told += [f"## {title}", *_said("check", "recipe.yaml")]
    Path("recipe.yaml").write_text(TINY)
    Path("mine.py").write_text('"""A plugin."""\n')
    Path("local.yaml").write_text(TINY + "plugins: [./mine.py]\n")
    for words in COMMANDS:
        told += [f"## compressit {' '.join(words)}", *_said(*words)]
    yield told
    installed.cache_clear()


def _said(*words: str) -> list[str]:
    result = CliRunner().invoke(build(), list(words))
    error, code = result.exception, result.exit_code
    text = result.output
    if isinstance(error, CompressitError):
        prefix = "" if isinstance(error, RecipeError) else "error: "  # as `terminal.fail` tells it
        text, code = f"{text}{prefix}{error}", error.exit_code
    elif not isinstance(error, SystemExit | None):
        raise error
    return [*(line.rstrip() for line in text.splitlines()), f"exit code {code}", ""]


def test_typical_messages_say_what_was_last_read(lines: list[str], tmp_path: Path) -> None:
    said = "\n".join(lines).replace(str(tmp_path), "FOLDER").replace(__version__, "VERSION")
    if os.environ.get("COMPRESSIT_WORDING") == "write":
        WORDING.write_text(said, encoding="utf-8")
    assert said == WORDING.read_text(encoding="utf-8")
