"""docs/own-data.md: what it shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from blocks import DOCS, blocks
from PIL import Image

import compressit
from compressit import TensorSpec
from compressit.host.plugins import installed
from compressit.recipe.load import load_recipe

TEXT = (DOCS / "own-data.md").read_text(encoding="utf-8")
REST = "version: 1\nname: own\nmodel: {uses: model.mlp}\nstages: {train: {uses: train.supervised}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images, and the arrays that the page's Python lines save."""
    images, labels = np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 10
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (70, 80)).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    (saves,) = [block.text for block in blocks("own-data.md") if block.language == "python"]
    names = {"images": images, "labels": labels, "others": images, "their_labels": labels}
    exec(saves, names)
    np.savez(
        "scans.npz",
        train_picture=images,
        train_image=images,
        train_age=np.arange(20.0)[:, None],
        train_y=labels,
    )
    return tmp_path


def test_its_recipes_are_valid_and_their_data_load(folder: Path) -> None:
    found = [block.text for block in blocks("own-data.md") if block.language == "yaml"]
    inputs = (
        TensorSpec((3, 64, 64)),
        TensorSpec((1, 4, 4)),
        {"age": TensorSpec((1,), low=0, high=120), "picture": TensorSpec((1, 4, 4))},
    )
    for text, classes, given in zip(found, (2, 10, 10), inputs, strict=True):
        (folder / "own.yaml").write_text(REST + text)
        recipe = load_recipe(folder / "own.yaml", host=installed())
        use = recipe.variants[0].data
        assert recipe.variants[0].offer.inputs == given
        assert compressit.data(use.uses, announce=lambda text: None, **use.config).classes == classes


def test_its_line_for_python_works(folder: Path) -> None:
    (line,) = re.findall(r"`(compressit\.data\(.*?\))`", TEXT)
    assert eval(line, {"compressit": compressit}).contract.class_names == ("cat", "dog")
