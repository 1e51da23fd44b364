"""docs/own-data.md: what it shows works as it stands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from blocks import DOCS, blocks, run_line
from PIL import Image

import compressit
from compressit import TensorSpec
from compressit.host.plugins import installed
from compressit.recipe.load import load_recipe

TEXT = (DOCS / "own-data.md").read_text(encoding="utf-8")
REST = {
    "version": "1", "name": "own", "model": "{uses: model.mlp}", "stages": "{train: {uses: train.supervised}}",
}  # fmt: skip
SCANS = {"age": TensorSpec((1,), low=0, high=120), "picture": TensorSpec((1, 4, 4))}
POSED = (
    ("task.classification", 2, TensorSpec((3, 64, 64))),
    ("task.classification", 10, TensorSpec((1, 4, 4))),
    ("task.classification", 10, SCANS),
    ("task.regression", 1, TensorSpec((6,))),
    ("task.segmentation", 19, TensorSpec((3, 4, 4))),
)


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
    names = {"images": images, "labels": labels, "others": images, "their_labels": labels}
    photos, pixels = np.zeros((20, 3, 4, 4), np.uint8), np.arange(320).reshape(20, 4, 4) % 19
    pixels[0] = 255
    features = {"features": np.zeros((20, 6)), "prices": np.arange(20) / 2, "their_prices": np.arange(20) / 2}
    maps = {"photos": photos, "pixels": pixels, "more_photos": photos, "their_pixels": pixels}
    arrays, others = [
        block.text for block in blocks("own-data.md") if block.language == "python" and not block.title
    ]
    exec(arrays, dict(names))
    exec(others, {**features, **maps, "others": features["features"]})
    np.savez("scans.npz", train_image=images, train_age=np.arange(20.0)[:, None], train_y=labels)
    return tmp_path


def test_its_recipes_are_valid_and_their_data_load(folder: Path) -> None:
    found = [block.text for block in blocks("own-data.md") if block.language == "yaml" and not block.title]
    for text, (task, outputs, inputs) in zip(found, POSED, strict=True):
        rest = "".join(f"{key}: {value}\n" for key, value in REST.items() if f"{key}:" not in text)
        (folder / "own.yaml").write_text(rest + text)
        (variant,) = load_recipe(folder / "own.yaml", host=installed()).variants
        assert variant.offer.inputs == inputs
        posed = {"uses": variant.task.uses, "with": variant.task.config}
        data = compressit.data(
            variant.data.uses, task=posed, announce=lambda text: None, **variant.data.config
        )
        assert (data.task.uses, data.task.outputs, data.contract.inputs) == (task, outputs, inputs)


def test_its_lines_for_python_work(folder: Path) -> None:
    prices, folders = re.findall(r"`(compressit\.data\(.*?\))`", TEXT)
    features = torch.zeros(4, 2)
    own = eval(prices, {"compressit": compressit, "features": features, "prices": torch.arange(4) / 2})
    assert own.task.uses == "task.regression"
    assert eval(folders, {"compressit": compressit}).contract.class_names == ("cat", "dog")


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
