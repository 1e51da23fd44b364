"""`eval.onnx`: the files are the model's, and the numbers are the files'."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit.contract.classification import usual
from compressit_plugins.evaluate import onnx_files
from compressit_plugins.evaluate.onnx_files import Onnx, OnnxConfig


def answers(content: bytes, x: torch.Tensor) -> torch.Tensor:
    session = importlib.import_module("onnxruntime").InferenceSession(content)
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


@pytest.fixture
def model(lab: Lab) -> nn.Module:
    torch.manual_seed(0)
    classes = lab.context().data.classes
    return nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes)).eval()


@pytest.mark.extra("onnx")
def test_files_and_numbers_belong_together(lab: Lab, model: nn.Module) -> None:
    evaluator, ctx = Onnx(OnnxConfig(images=8)), lab.context()
    values = evaluator.evaluate(model, ctx)
    assert {*values, *ctx.files} == set(evaluator.declares(usual()))
    x, y = ctx.data.split("test").tensors()
    assert isinstance(x, torch.Tensor)
    with torch.no_grad():
        wanted = model(x)
    assert torch.allclose(answers(ctx.files["net.onnx"], x), wanted, atol=1e-5)
    small = answers(ctx.files["net.int8.onnx"], x)
    assert values["int8_test_accuracy"] == pytest.approx(float((small.argmax(1) == y).double().mean()))
    assert values["int8_agreement"] == pytest.approx(
        float((small.argmax(1) == wanted.argmax(1)).double().mean())
    )
    assert values["int8_bytes"] == len(ctx.files["net.int8.onnx"])


@pytest.mark.extra("onnx")
def test_a_file_that_loses_too_much_is_not_kept_but_its_numbers_are(lab: Lab, model: nn.Module) -> None:
    ctx = lab.context()
    values = Onnx(OnnxConfig(images=8, max_drop=-2.0)).evaluate(model, ctx)
    assert list(ctx.files) == ["net.onnx"]
    assert "int8_test_accuracy" in values


def test_a_missing_package_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> Any:
        return None if name == "onnx" else object()

    monkeypatch.setattr(onnx_files, "find_spec", found)
    (why,) = Onnx(OnnxConfig()).misfits(usual()).values()
    assert why.startswith("needs onnx, ")
    assert "pip install 'compressit[onnx]'" in why
