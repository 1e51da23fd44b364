"""Built-in stages and measures on somebody's own torch Dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

import compressit


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
