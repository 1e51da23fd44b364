"""Built-in stages and measures on somebody's own torch Dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

import compressit
from compressit.errors import RecipeError
from compressit.host.plugins import installed
from compressit.recipe.load import load_recipe


def test_a_stage_trains_on_a_dataset_and_it_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path))
    bright = (
        torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
        + (torch.arange(90) % 3)[:, None, None, None] * 0.3
    )
    train = TensorDataset(bright, torch.arange(90) % 3)
    data = compressit.data(train=train, test=train, announce=print, class_names=("dark", "grey", "light"))
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)
    )
    options = {"epochs": 30, "batch_size": 16, "optimizer": {"name": "adam", "lr": 0.01}}
    trained = compressit.stage("train.supervised", **options)(net, data)
    metrics = compressit.evaluate(trained, data, "eval.accuracy")
    assert metrics["test_accuracy"] > 0.9
    x, y = next(data.split("test").ordered(90))
    with torch.no_grad():
        right = (trained(x).argmax(1) == y).double().mean()
    assert metrics["test_accuracy"] == pytest.approx(float(right))


def test_paths_start_from_the_recipe_those_of_set_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        for name in ("a", "b"):
            for label in ("cat", "dog"):
                (folder / name / "train" / label).mkdir(parents=True)
                for number in range(4):
                    (folder / name / "train" / label / f"{number}.png").write_bytes(b"")
    (there / "r.yaml").write_text(
        "version: 1\nname: r\ndata: {uses: data.folder, with: {root: a, size: 8, test: 0.5}}\n"
        "model: {uses: model.mlp}\nstages: {train: {uses: train.supervised}}\n"
    )
    monkeypatch.chdir(here)

    def root(*settings: str) -> str:
        (variant,) = load_recipe(there / "r.yaml", settings=settings, host=installed()).variants
        return variant.data.config["root"]

    assert root() == str(there / "a")
    assert root("data.with.root=b") == str(here / "b")
    assert root("data={uses: data.folder, with: {root: b, size: 8}}") == str(here / "b")
    assert root("data.with.size=16") == str(there / "a")
    with pytest.raises(RecipeError, match=r"there is no file x\.safetensors") as caught:
        root("model={from: x.safetensors}")
    assert f"looked in {here}" in str(caught.value)
