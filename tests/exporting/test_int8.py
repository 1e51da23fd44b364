"""Files in int8: near to the float net's outputs, made with training examples, judged by test examples."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import compressit
from compressit.checkpoint.model import load
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import InMemory
from compressit.errors import CompressitError
from compressit.exporting import int8
from compressit.exporting.onnxnet import OnnxNet
from compressit.host.plugins import Host
from compressit.seeds import Streams

from .conftest import CONV

pytestmark = pytest.mark.extra("onnx")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A net with what makes int8 hard: channels of very different scales, depthwise kernels, a residual sum."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.head = nn.Linear(8, 4)
            with torch.no_grad():
                self.first.weight *= torch.logspace(-2, 1, 8)[:, None, None, None]
                self.norm.bias.uniform_(-0.2, 0.2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.first(x)).relu()
            return self.head((x + self.depth(x)).clamp(0, 6).mean((2, 3)))

    return Net().eval()


def split(count: int, seed: int) -> InMemory:
    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return InMemory(x, torch.zeros(count, dtype=torch.int64), Streams(0, "test"))


def test_int8_is_near_to_torch_and_its_weights_are_a_fourth(net: nn.Module) -> None:
    onnx = importlib.import_module("onnx")
    float_net = OnnxNet.of(net, TensorSpec((3, 8, 8)), about={"class_names": "[]"})
    small, test = int8.quantised(float_net, split(64, 1), 32), split(40, 2)
    with torch.no_grad():
        wanted = net(test.inputs)
    assert torch.allclose(float_net.outputs(test), wanted, atol=1e-4 * float(wanted.abs().max()))
    error = (small.outputs(test) - wanted).norm() / (wanted - wanted.mean(0)).norm()
    assert 0 < error < 0.1
    model = onnx.load_from_string(small.content)
    kinds = {w.name: w.data_type for w in model.graph.initializer if len(w.dims) > 1}
    assert set(kinds.values()) == {onnx.TensorProto.INT8}
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["class_names"] == "[]"
    assert json.loads(told["int8"])["images"] == 32


def test_the_same_examples_give_the_same_file(net: nn.Module) -> None:
    float_net = OnnxNet.of(net, TensorSpec((3, 8, 8)))
    assert (
        int8.quantised(float_net, split(20, 1), 8).content
        == int8.quantised(float_net, split(20, 1), 8).content
    )


def test_biases_take_up_the_mean_that_rounded_weights_add(net: nn.Module) -> None:
    """Independently: the mean outputs of torch's convolution with the rounded weights are nearer to those before."""
    float_net = OnnxNet.of(net, TensorSpec((3, 8, 8)))
    x = torch.rand(64, 3, 8, 8)
    plain = int8._prepared(float_net.content)
    seen = int8.observed(plain, int8.session, lambda: [{"input": x.numpy()}])
    rounded = int8._in_int8(plain, seen, 100.0)
    after = int8._rounded_weights(rounded)
    helper = importlib.import_module("onnx").numpy_helper
    old, new = (
        {w.name: torch.from_numpy(np.array(helper.to_array(w))) for w in model.graph.initializer}
        for model in (plain, int8._with_biases(plain, rounded, seen))
    )
    (node,) = [n for n in plain.graph.node if n.op_type == "Conv" and n.input[0] == "input"]
    _, weight, bias = node.input
    coarse = torch.from_numpy(after[weight]).float()
    assert 0 < (coarse - old[weight]).abs().max() <= old[weight].abs().amax((1, 2, 3)).max() / 127

    def mean(w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, w, b).mean((0, 2, 3))

    wanted = mean(old[weight], old[bias])
    before = (mean(coarse, old[bias]) - wanted).abs()
    corrected = (mean(coarse, new[bias]) - wanted).abs()
    assert (corrected < before / 3).float().mean() > 0.7


def test_seven_bits_where_the_processor_adds_products_in_sixteen(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = importlib.import_module("onnx").numpy_helper
    onnx = importlib.import_module("onnx")
    for flags, most in ((("avx2",), 64), (("avx2", "avx512_vnni"), 127)):
        monkeypatch.setattr(int8, "cpu_flags", lambda flags=flags: flags)
        small = int8.quantised(OnnxNet.of(net, TensorSpec((3, 8, 8))), split(8, 1), 4)
        model = onnx.load_from_string(small.content)
        weights = [helper.to_array(w) for w in model.graph.initializer if len(w.dims) > 1]
        assert max(int(np.abs(w.astype(int)).max()) for w in weights) == most


@pytest.fixture
def checkpoint(saved: Callable[..., Path], host: Host) -> tuple[Path, Any]:
    """A net in a file, and data whose test labels are its own answers, but for every tenth."""
    x = torch.rand(400, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = load(saved(CONV), host=host)((x - x.mean()) / x.std()).argmax(1)
    y[::10] = (y[::10] + 1) % 3
    data = compressit.data(train=(x[:200], y[:200]), test=(x[200:], y[200:]), scale="standard")
    return saved(CONV, contract=data.contract, task=data.task), data


def test_the_scores_are_told_and_are_those_of_the_files(checkpoint: tuple[Path, Any], host: Host) -> None:
    path, data = checkpoint
    said: list[str] = []
    out = compressit.export(path, "onnx", int8=data, images=50, max_drop=0.1, announce=said.append, host=host)
    assert out == path.with_suffix(".int8.onnx")
    session = importlib.import_module("onnxruntime").InferenceSession(out.read_bytes())
    x, targets = data.test.tensors()
    (y,) = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        before = float((load(path, host=host)(x).argmax(1) == targets).double().mean())
    after = float((y.argmax(1) == targets.numpy()).mean())
    assert 0.8 < before < 1
    assert said[0].startswith(f"test accuracy {100 * after:.2f} % in int8, {100 * before:.2f} % in float32")
    (one,) = session.run(None, {"input": x[:1].numpy()})  # any batch size
    assert np.allclose(one, y[:1], atol=1e-4)


def test_what_loses_more_than_it_may_is_refused_with_the_figure_and_leaves_no_file(
    checkpoint: tuple[Path, Any], tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = checkpoint
    ask = {"int8": data, "announce": lambda text: None, "host": host}
    monkeypatch.setattr(int8, "PERCENTILES", (20.0,))  # ranges that cut most values off
    with pytest.raises(CompressitError, match=r"loses \d+\.\d\d points of its test accuracy") as caught:
        compressit.export(path, "onnx", tmp_path / "a.onnx", **ask)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "a.onnx").exists()
    compressit.export(path, "onnx", tmp_path / "a.onnx", max_drop=1.0, **ask)
    assert (tmp_path / "a.onnx").exists()


def test_data_that_are_scaled_otherwise_are_refused(
    checkpoint: tuple[Path, Any], tmp_path: Path, host: Host
) -> None:
    path, _ = checkpoint
    x, y = torch.rand(30, 2, 6, 6) / 2, torch.arange(30) % 3
    other = compressit.data(train=(x, y), test=(x, y), scale="standard")
    with pytest.raises(CompressitError, match="another mean and deviation"):
        compressit.export(path, "onnx", tmp_path / "a.onnx", int8=other, host=host)
