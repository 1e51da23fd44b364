from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import load, save
from compressit.datasets.splits import InputSpec
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.exporting import onnxnet
from compressit.exporting.export import export
from compressit.exporting.subject import opened
from compressit.host.plugins import Host

from .conftest import CONV, TIED

Saved = Callable[..., Path]


@pytest.mark.extra("onnx")
@pytest.mark.parametrize("architecture", [CONV, TIED], ids=lambda a: a.name)
def test_onnxruntime_computes_the_models_outputs(architecture: Any, saved: Saved, host: Host) -> None:
    onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    path = saved(architecture)
    out = export(path, "onnx", host=host)
    assert {file.name for file in path.parent.iterdir()} == {"net.safetensors", "net.onnx"}
    model, session = load(path, host=host), runtime.InferenceSession(out.read_bytes())
    x = opened(path, host).x
    assert ([i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]) == (
        ["input"],
        ["output"],
    )
    for batch in (x[:1], x, torch.cat([x, x.flip(0), x[:1]])):
        (y,) = session.run(None, {"input": batch.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(y), model(batch), rtol=1e-5, atol=1e-6)
    content = onnx.load(out)
    onnx.checker.check_model(content)
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    about = {entry.key: entry.value for entry in content.metadata_props}
    assert about["tensors_sha256"] == read_header(path).manifest.tensors_sha256
    raw = out.read_bytes()
    assert not [
        word for word in (b"site-packages", b"test_onnx", b"stack_trace", b"self.head(") if word in raw
    ]


@pytest.mark.extra("onnx")
def test_the_file_says_how_to_feed_it_and_what_its_outputs_are(saved: Saved, host: Host) -> None:
    onnx = importlib.import_module("onnx")
    prepared = InputSpec(CONV.inputs, "standard", (0.25, 0.5), (0.5, 0.25), ("cat", "dög", "owl"))
    posed = TaskSpec("task.classification", 3, ("cat", "dög", "owl"))
    out = export(saved(CONV, contract=prepared, task=posed), "onnx", host=host)
    about = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(about["class_names"]) == ["cat", "dög", "owl"]
    assert (json.loads(about["mean"]), json.loads(about["std"])) == ([0.25, 0.5], [0.5, 0.25])
    assert (about["scale"], about["task"]) == ("standard", "task.classification")
    assert json.loads(about["inputs"])["input"]["shape"] == list(CONV.inputs.shape)
    assert "subtract mean" in about["preparation"]


@pytest.mark.extra("onnx")
def test_what_computes_something_else_is_not_published(
    saved: Saved, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(CONV)
    session = onnxnet.session

    class Wrong:
        """Correct for the batch the model was exported with, and for no other."""

        def __init__(self, content: bytes) -> None:
            self.session = session(content)

        def run(self, names: None, feed: dict[str, Any]) -> list[Any]:
            (y,) = self.session.run(names, feed)
            return [y if len(y) == 2 else y * 1.1]

    monkeypatch.setattr(onnxnet, "session", Wrong)
    with pytest.raises(CompressitError, match="the ONNX model, run on a batch of 1, is off by up to"):
        export(path, "onnx", host=host)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


@pytest.mark.extra("onnx")
def test_a_precision_that_onnxruntime_lacks_is_refused_with_the_one_it_has(
    tmp_path: Path, saved: Saved, host: Host
) -> None:
    net = load(saved(CONV), host=host).to(torch.bfloat16)
    save(net, tmp_path / "half.safetensors", CONV, host=host)
    with pytest.raises(CompressitError, match="onnxruntime cannot load") as caught:
        export(tmp_path / "half.safetensors", "onnx", host=host)
    assert "net.float()" in str(caught.value.hint)
    assert not (tmp_path / "half.onnx").exists()


def test_missing_packages_are_named_with_the_extra_that_has_them(
    saved: Saved, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(CONV)
    present = importlib.util.find_spec("json")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else present
    )
    with pytest.raises(CompressitError, match="needs onnxruntime") as caught:
        export(path, "onnx", host=host)
    assert "compressit[onnx]" in str(caught.value.hint)
    assert caught.value.exit_code == 2
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_a_model_beyond_two_gigabytes_is_refused(
    saved: Saved, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxnet, "MOST_BYTES", 1000)
    monkeypatch.setattr(onnxnet, "PACKAGES", ())
    with pytest.raises(CompressitError, match="2 GB"):
        export(saved(CONV), "onnx", host=host)
