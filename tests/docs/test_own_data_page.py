"""docs/own-data.md: what it shows works as it stands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from blocks import DOCS, blocks, run_line
from PIL import Image

import compressit
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
    (saves,) = [
        block.text for block in blocks("own-data.md") if block.language == "python" and not block.title
    ]
    names = {"images": images, "labels": labels, "others": images, "their_labels": labels}
    exec(saves, names)
    return tmp_path


def test_its_recipes_are_valid_and_their_data_load(folder: Path) -> None:
    found = [block.text for block in blocks("own-data.md") if block.language == "yaml" and not block.title]
    assert len(found) == 2
    for text, classes, shape in zip(found, (2, 10), ((3, 64, 64), (1, 4, 4)), strict=True):
        (folder / "own.yaml").write_text(REST + text)
        recipe = load_recipe(folder / "own.yaml", host=installed())
        use = recipe.variants[0].data
        assert recipe.variants[0].offer.shape == shape
        assert compressit.data(use.uses, announce=lambda text: None, **use.config).classes == classes


def test_its_line_for_python_works(folder: Path) -> None:
    (line,) = re.findall(r"`(compressit\.data\(.*?\))`", TEXT)
    assert eval(line, {"compressit": compressit}).contract.class_names == ("cat", "dog")


def test_its_plugin_with_augmentation_is_short_and_trains_alike_with_any_number_of_workers(
    folder: Path,
) -> None:
    for block in blocks("own-data.md"):
        if block.title:
            block.write(folder)
    assert sum(bool(line.strip()) for line in (folder / "photos.py").read_text().splitlines()) <= 25
    for split in ("train", "test"):
        (folder / "photos").mkdir(exist_ok=True)
        shutil.copytree(folder / "images", folder / "photos" / split)
    losses: list[str] = []
    for workers in (2, 0):
        environment = {"COMPRESSIT_STORE": str(folder / f"store{workers}"), "OMP_NUM_THREADS": "1"}
        line = f"compressit run photos.yaml --trust --out run{workers} --set data.with.workers={workers}"
        assert "report.html" in run_line(line, folder, environment)
        (row,) = json.loads((folder / f"run{workers}" / "results.json").read_text())["rows"]
        losses.append(row["curves"]["loss"])
    assert losses[0] == losses[1]
