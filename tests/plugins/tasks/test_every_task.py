"""Every task from a recipe to checkpoints and results, with the built-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Bench

import compressit
from compressit.checkpoint.model import task_of
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.python.evaluation import evaluate_file

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "tasks",
    "data": {"uses": "data.synthetic", "with": {"classes": 3, "train": 96, "test": 48, "validation": 0.2}},
    "model": {"uses": "model.mlp", "with": {"hidden": [24]}},
    "stages": {
        "train": {
            "uses": "train.supervised",
            "with": {
                "epochs": 12,
                "batch_size": 16,
                "restore_best": True,
                "optimizer": {"name": "adam", "lr": 0.01},
            },
        },
        "zero": {
            "uses": "prune.magnitude",
            "with": {"sparsity": 0.5, "finetune": {"epochs": 1, "batch_size": 16}},
        },
        "prune": {
            "uses": "prune.structured",
            "needs": "train",
            "with": {"importance": "taylor", "target": "channels", "keep": 0.25, "batch_size": 16},
        },
        "recover": {
            "uses": "train.distill",
            "with": {
                "teacher": "train",
                "epochs": 3,
                "batch_size": 16,
                "optimizer": {"name": "adam", "lr": 0.01},
            },
        },
        "noise": {
            "uses": "shrink.noise",
            "needs": "train",
            "with": {"epochs": 2, "images": 64, "batch_size": 16},
        },
    },
    "evaluate": ["eval.scores", "eval.fidelity", "eval.size"],
}
# of each task: what is watched, and a bound that a net that learned nothing does not reach
LEARNED = {
    "classification": ("accuracy", 0.9), "multilabel": ("macro_f1", 0.7), "regression": ("rmse", 0.6),
    "segmentation": ("miou", 0.5),
}  # fmt: skip


@pytest.mark.parametrize("poses", LEARNED)
def test_a_recipe_of_every_task_trains_prunes_recovers_and_measures(
    poses: str, bench: Bench, tmp_path: Path
) -> None:
    recipe = json.loads(json.dumps(RECIPE))
    recipe["data"]["with"]["poses"] = poses
    if poses == "segmentation":
        recipe["model"] = {"uses": "model.convnet", "with": {"channels": [8, 8], "per_pixel": True}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    run = compressit.run(tmp_path / "r.yaml", out=tmp_path / "run", store=tmp_path / "store")

    watched, bound = LEARNED[poses]
    rows = {row.name: row for row in run.results.rows}
    lower = run.results.metrics[f"test_{watched}"]["better"] == "lower"
    trained = rows["train"].metrics[f"test_{watched}"]
    assert trained < bound if lower else trained > bound
    assert all(
        {f"test_{watched}", "train_loss", "validation_loss"} <= row.metrics.keys() for row in rows.values()
    )
    assert {f"validation_{watched}", "validation_loss"} <= rows["train"].curves.keys()
    assert rows["recover"].metrics["test_loss"] < rows["prune"].metrics["test_loss"], (
        "it learned from its teacher"
    )
    assert rows["zero"].metrics["sparsity"] > 0.4
    assert rows["prune"].notes["masked_gap"] < 1e-5
    assert rows["noise"].metrics["fit_agreement"] <= 1

    file = run.folder / "checkpoints" / "base" / "seed0" / "recover.safetensors"
    posed = task_of(file)
    assert posed is not None
    assert (posed.uses, posed.outputs) == (f"task.{poses}", 3)
    # the file alone, on the same data: the same numbers
    data = compressit.data("data.synthetic", **recipe["data"]["with"], announce=lambda text: None)
    again = compressit.evaluate(file, data, "eval.scores")
    assert again == {name: rows["recover"].metrics[name] for name in again}
    other = "regression" if poses != "regression" else "multilabel"
    with pytest.raises(CompressitError, match=rf"made for task\.{poses}, but .* is task\.{other}"):
        compressit.evaluate(file, compressit.data("data.synthetic", poses=other, classes=3))


def test_arrays_of_floats_are_a_regression_from_file_to_checkpoint(bench: Bench, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    x = draws.random((120, 6))
    y = x @ draws.random((6, 2)) + 1
    np.savez(tmp_path / "arrays.npz", train_x=x[:80], train_y=y[:80], test_x=x[80:], test_y=y[80:])
    (tmp_path / "r.yaml").write_text(
        "version: 1\nname: arrays\ndata: {uses: data.tensors, with: {file: arrays.npz}}\n"
        "model: {uses: model.mlp, with: {hidden: [16]}}\nstages:\n"
        "  train: {uses: train.supervised, with: {epochs: 60, optimizer: {name: adam, lr: 0.02}}}\n"
        "evaluate: [eval.scores]\n"
    )
    run = compressit.run(tmp_path / "r.yaml", out=tmp_path / "run", store=tmp_path / "store")
    (row,) = run.results.rows
    given = run.model("train")(torch.tensor(x[80:]).float()).detach().numpy()
    errors, spread = (given - y[80:]) ** 2, (y[80:] - y[80:].mean(0)) ** 2
    assert row.metrics["test_rmse"] == pytest.approx(errors.mean() ** 0.5, rel=1e-5)
    assert row.metrics["test_r2"] == pytest.approx((1 - errors.sum(0) / spread.sum(0)).mean(), rel=1e-4)
    assert row.metrics["test_r2"] > 0.5


def test_a_file_is_measured_as_it_was_made_without_the_pixels_that_do_not_count(
    bench: Bench, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    y = draws.integers(3, size=(40, 4, 4))
    x = ((y + 0.5) / 3)[:, None].astype("float32")
    y[draws.random(y.shape) < 0.3] = 255
    np.savez(tmp_path / "maps.npz", train_x=x[:30], train_y=y[:30], test_x=x[30:], test_y=y[30:])
    (tmp_path / "r.yaml").write_text(
        "version: 1\nname: maps\ndata: {uses: data.tensors, with: {file: maps.npz, classes: 3}}\n"
        "task: {with: {ignore_index: 255, class_weights: balanced}}\n"
        "model: {uses: model.convnet, with: {channels: [8], per_pixel: true}}\nstages:\n"
        "  train: {uses: train.supervised, with: {epochs: 20, batch_size: 10, optimizer: {name: adam, lr: 0.05}}}\n"
        "evaluate: [eval.scores]\n"
    )
    run = compressit.run(tmp_path / "r.yaml", out=tmp_path / "run", store=tmp_path / "store")
    (row,) = run.results.rows
    assert row.metrics["test_miou"] > 0.8
    settings = [f"file={tmp_path / 'maps.npz'}", "classes=3"]
    again = evaluate_file(run.folder / str(row.checkpoint), "data.tensors", settings, (), installed())
    assert {name: again[name] for name in row.metrics} == row.metrics


@pytest.mark.parametrize(
    ("targets", "task", "expected"),
    [
        (torch.rand(8), None, ("task.regression", 1)),
        (torch.rand(8, 3), None, ("task.regression", 3)),
        (torch.arange(8) % 4, None, ("task.classification", 4)),
        (torch.arange(8) % 4, "task.regression", ("task.regression", 1)),
        (torch.randint(2, (8, 3)), None, ("task.multilabel", 3)),
        (torch.arange(8 * 4).view(8, 2, 2) % 5, None, ("task.segmentation", 5)),
        (
            torch.tensor([0, 1, 2, 255]).repeat(8).view(8, 2, 2),
            {"uses": "task.segmentation", "with": {"ignore_index": 255}},
            ("task.segmentation", 3),
        ),
    ],
)
def test_in_python_targets_say_what_they_pose_unless_they_are_told(
    targets: torch.Tensor, task: Any, expected: tuple[str, int]
) -> None:
    data = compressit.data(train=(torch.rand(8, 1, 2, 2), targets), task=task, announce=lambda text: None)
    assert (data.task.uses, data.task.outputs) == expected


def test_in_python_a_torch_dataset_may_have_numbers_and_maps_as_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path))
    x, y = torch.rand(10, 1, 2, 2), torch.rand(10, 2)
    data = compressit.data(train=torch.utils.data.TensorDataset(x, y), announce=lambda text: None)
    (first, wanted) = next(data.train.ordered(10))
    assert torch.equal(first, x)
    assert torch.equal(wanted, y)
    maps = torch.arange(40).view(10, 2, 2) % 3
    posed = compressit.data(train=torch.utils.data.TensorDataset(x, maps), announce=lambda text: None)
    assert posed.task.uses == "task.segmentation"
    assert torch.equal(posed.train.y, maps)


def test_in_python_label_smoothing_comes_from_the_datas_task() -> None:
    given: dict[str, Any] = {"train": 64, "test": 16, "announce": lambda text: None}
    smooth = {"with": {"label_smoothing": 0.3}}
    plain, smoothed = (
        compressit.data("data.synthetic", **given),
        compressit.data("data.synthetic", task=smooth, **given),
    )
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    stage = compressit.stage("train.supervised", epochs=1, batch_size=64, optimizer={"lr": 1e-9})
    losses = []
    for data in (plain, smoothed):
        stage(net, data)
        losses.append(stage.curves["loss"][0][1])  # type: ignore[attr-defined]
    outputs = net(plain.train.x)
    expected = torch.nn.functional.cross_entropy(outputs, plain.train.y, label_smoothing=0.3)
    assert losses[1] == pytest.approx(float(expected), rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)
    assert compressit.evaluate(net, plain) == compressit.evaluate(net, smoothed), "measured without it"


def test_in_python_what_is_not_for_the_task_is_refused() -> None:
    data = compressit.data(
        "data.synthetic", poses="regression", train=32, test=16, announce=lambda text: None
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(CompressitError, match=r"eval\.accuracy is for task\.classification"):
        compressit.evaluate(net, data, "eval.accuracy")
    with pytest.raises(CompressitError, match=r"labels is 'hard'"):
        compressit.stage("shrink.noise", labels="hard")(net, data)
    assert "test_rmse" in compressit.evaluate(net, data)
    narrow = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9))
    with pytest.raises(CompressitError, match=r"outputs of shape \(\d+, 9\)"):
        compressit.stage("train.supervised", epochs=1)(narrow, data)
