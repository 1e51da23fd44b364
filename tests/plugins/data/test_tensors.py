from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import compressit
from compressit.contract.context import DataContext
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.running.loading import load_data
from compressit.testing import Subject, checks_for, outcomes
from compressit_plugins.data.tensors import Tensors, TensorsConfig

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (24, 3, 4, 5)).astype(np.uint8)
Y = np.arange(24) % 3
WRITERS: dict[str, Callable[..., None]] = {
    "a.npz": lambda path, arrays: np.savez(path, **arrays),
    "packed.npz": lambda path, arrays: np.savez_compressed(path, **arrays),
    "a.safetensors": lambda path, arrays: save_file(
        {n: np.ascontiguousarray(a) for n, a in arrays.items()}, path
    ),
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Writes arrays to a file of each kind."""

    def write(**arrays: Any) -> Path:
        path = tmp_path / request.param
        WRITERS[request.param](path, arrays)
        return path

    return write


def _dataset(path: Path, **options: Any) -> Tensors:
    return Tensors(TensorsConfig(file=str(path), **options))


def _loaded(path: Path, **options: Any) -> Any:
    return _dataset(path, **options).load(DataContext(path.parent, print))


def _data(dataset: Tensors, path: Path) -> Data:
    return load_data(dataset, installed().task(dataset.task), path.parent, print)


def test_the_arrays_come_as_they_are(written: Callable[..., Path]) -> None:
    path = written(train_x=X, train_y=Y, test_x=X[:6], test_y=Y[:6], validation_x=X[6:9], validation_y=Y[6:9])
    dataset, sources = _dataset(path), _loaded(path)
    assert (dataset.inputs.shape, dataset.classes, dataset.train_size) == ((3, 4, 5), 3, 24)
    assert dataset.doubts() == []
    assert dataset.has_validation
    for (x, y), at in (
        (sources.train, slice(24)),
        (sources.test, slice(6)),
        (sources.validation, slice(6, 9)),
    ):
        assert x.dtype == torch.uint8
        assert y.dtype == torch.int64
        assert np.array_equal(x.numpy(), X[at])
        assert np.array_equal(y.numpy(), Y[at])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_whole_type_become_int64(written: Callable[..., Path], dtype: str) -> None:
    path = written(train_x=X, train_y=Y.astype(dtype))
    assert _dataset(path).classes == 3
    _, y = _loaded(path).train
    assert y.dtype == torch.int64
    assert y.tolist() == Y.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_become_float32(written: Callable[..., Path], dtype: str) -> None:
    x = RANDOM.random((24, 7)).astype(dtype)
    loaded, _ = _loaded(written(train_x=x, train_y=Y)).train
    assert loaded.dtype == torch.float32
    assert np.array_equal(loaded.numpy(), x.astype(np.float32))


def test_numpys_other_orders_are_understood(tmp_path: Path) -> None:
    x = RANDOM.random((24, 3, 4))
    np.savez(tmp_path / "a.npz", train_x=np.asfortranarray(x.astype(">f4")), train_y=Y.astype(">i4"))
    dataset = _dataset(tmp_path / "a.npz")
    assert (dataset.inputs.shape, dataset.classes) == ((3, 4), 3)
    loaded, y = _loaded(tmp_path / "a.npz").train
    assert np.array_equal(loaded.numpy(), x.astype(np.float32))
    assert y.tolist() == Y.tolist()


def test_classes_may_be_more_than_the_labels_show_but_not_fewer(written: Callable[..., Path]) -> None:
    path = written(train_x=X, train_y=Y)
    assert _dataset(path, classes=10).classes == 10
    with pytest.raises(CompressitError, match="labels train_y go from 0 to 2"):
        _ = _dataset(path, classes=2).classes
    assert _dataset(written(train_x=X, train_y=Y * 0)).classes == 2, "a class alone is none"
    assert _dataset(written(train_x=X, train_y=Y, test_x=X, test_y=Y + 4)).classes == 7


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x_train": X, "y_train": Y}, "has no train_x and no train_y"),
    ({"train_x": X}, "has no train_y"),
    ({"train_x": X, "train_y": Y, "test_x": X}, "has no test_y"),
    ({"train_x": X, "train_y": Y.astype("float32")}, "train_y is F32"),
    ({"train_x": X, "train_y": Y[:, None]}, r"train_y is I64 of shape \(24, 1\)"),
    ({"train_x": X, "train_y": Y[:20]}, r"train_y \(20,\)"),
    ({"train_x": X[:0], "train_y": Y[:0]}, r"train_y \(0,\)"),
    ({"train_x": X[:, 0, 0, 0], "train_y": Y}, r"train_x has the shape \(24,\)"),
    ({"train_x": X, "train_y": Y, "test_x": X[..., :2], "test_y": Y}, "test_x has the shape"),
    ({"train_x": X, "train_y": Y, "test_x": X, "test_y": Y / 2}, "test_y is F64"),
    ({"train_x": X, "train_y": Y - 1}, "from -1 to 1"),
    ({"train_x": X, "train_y": Y + 10**9}, "from 1000000000"),
]


@pytest.mark.parametrize(("arrays", "told"), BAD)
def test_arrays_that_do_not_fit_are_told(
    written: Callable[..., Path], arrays: dict[str, Any], told: str
) -> None:
    path = written(**arrays)
    with pytest.raises(CompressitError, match=told) as caught:
        _ = _dataset(path, poses="classification").classes
    assert str(path) in caught.value.message


def test_whole_numbers_need_a_range_and_are_not_scaled(written: Callable[..., Path]) -> None:
    ids = RANDOM.integers(0, 50, (24, 7)).astype("int32")
    path = written(train_x=ids, train_y=Y)
    with pytest.raises(CompressitError, match="train_x is I32: whole numbers need their range"):
        _ = _dataset(path).inputs
    assert _dataset(path, ranges={"x": (0, 49)}).inputs == TensorSpec((7,), "int64", 0, 49)
    assert np.array_equal(_loaded(path, ranges={"x": (0, 49)}).train[0].numpy(), ids)
    with pytest.raises(CompressitError, match="`ranges` names 'y'"):
        _ = _dataset(path, ranges={"y": (0, 49)}).inputs


def test_floats_like_those_of_mnist_1d_have_the_range_that_is_said(written: Callable[..., Path]) -> None:
    x = (5 * RANDOM.standard_normal((24, 40))).astype("float32")
    path = written(train_x=x, train_y=Y)
    with pytest.raises(CompressitError, match=rf"go from {x.min():g} to {x.max():g}, not 0\.\.1"):
        _data(_dataset(path), path)
    free = {"ranges": {"x": (None, None)}}
    assert torch.equal(_data(_dataset(path, **free), path).train.x, torch.from_numpy(x))
    scaled = _data(_dataset(path, scale="standard", **free), path)
    want = (x - x.mean(0)) / x.std(0)
    assert np.allclose(scaled.train.x.numpy(), want, atol=1e-5)


def test_several_arrays_are_inputs_by_place_or_by_name(written: Callable[..., Path]) -> None:
    vector = RANDOM.random((24, 2)).astype("float32")
    path = written(train_image=X, train_extra=vector, train_on=vector[:, 0] > 0.5, train_y=Y)
    dataset = _dataset(path, inputs=("image", "extra"))
    assert dataset.inputs == (TensorSpec((3, 4, 5)), TensorSpec((2,)))
    assert "nothing reads: train_on" in " ".join(dataset.doubts())
    image, extra = _data(dataset, path).train.x
    assert np.allclose(image.numpy(), X / np.float32(255))
    assert np.array_equal(extra.numpy(), vector)
    named = _data(_dataset(path, inputs={"picture": "image", "mask": "on"}), path).train.x
    assert {name: tensor.dtype for name, tensor in named.items()} == {
        "picture": torch.float32, "mask": torch.bool,
    }  # fmt: skip
    with pytest.raises(CompressitError, match="has no train_other"):
        _ = _dataset(path, inputs=("image", "other")).inputs


FLOATS, FLAGS = Y.astype("float32"), np.eye(3, dtype="uint8")[Y]


@pytest.mark.parametrize(
    ("targets", "options", "posed"),
    [
        (Y, {}, ("task.classification", 3)),
        (Y, {"poses": "regression"}, ("task.regression", 1)),
        (FLOATS, {}, ("task.regression", 1)),
        (FLOATS[:, None].repeat(2, 1), {}, ("task.regression", 2)),
        (FLAGS, {}, ("task.multilabel", 3)),
        (FLAGS.astype("float32"), {"poses": "multilabel"}, ("task.multilabel", 3)),
        (np.zeros((24, 4, 4), dtype="uint8"), {"classes": 5}, ("task.segmentation", 5)),
    ],
)
def test_the_targets_say_what_they_pose_unless_told(
    written: Callable[..., Path], targets: Any, options: dict[str, Any], posed: tuple[str, int]
) -> None:
    dataset = _dataset(written(train_x=X, train_y=targets), **options)
    assert (dataset.task.uses, dataset.task.outputs) == posed


@pytest.mark.parametrize(
    ("targets", "options", "told"),
    [
        (FLOATS, {"poses": "segmentation"}, "whole numbers"),
        (FLAGS, {"poses": "classification"}, r"of shape \(24, 3\)"),
        (np.zeros((24, 4, 4), dtype="uint8"), {}, "the pixels' labels are not counted"),
    ],
)
def test_targets_that_are_not_of_the_task_are_told(
    written: Callable[..., Path], targets: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(CompressitError, match=told):
        _ = _dataset(written(train_x=X, train_y=targets), **options).task


def test_what_seems_wrong_is_a_doubt(written: Callable[..., Path]) -> None:
    path = written(train_x=X.transpose(0, 3, 2, 1), train_y=Y, names=Y)
    doubts = " / ".join(_dataset(path).doubts())
    assert "no test arrays" in doubts
    assert "nothing reads: names" in doubts
    assert "channels come first" in doubts


def test_the_fingerprint_is_that_of_the_content(written: Callable[..., Path]) -> None:
    path = written(train_x=X, train_y=Y)
    before = _dataset(path).fingerprint()
    os.utime(path, (0, 0))
    assert _dataset(path).fingerprint() == before
    written(train_x=255 - X, train_y=Y)
    assert _dataset(path).fingerprint() != before


def _forged(path: Path) -> list[tuple[str, bytes]]:
    """Files that lie about what they hold, or are damaged."""
    np.savez(path / "whole.npz", train_x=X, train_y=Y)
    whole = (path / "whole.npz").read_bytes()
    save_file({"train_x": X, "train_y": Y}, path / "whole.safetensors")
    tensors = (path / "whole.safetensors").read_bytes()
    objects = path / "objects.npz"
    np.savez(objects, train_x=X, train_y=np.array([{}] * 24, dtype=object))  # a pickle inside
    huge = path / "huge.npz"
    with zipfile.ZipFile(huge, "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 10)}\n"
        archive.writestr("train_x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    far = json.dumps({"train_x": {"dtype": "U8", "shape": [4, 2], "data_offsets": [0, 8]}}).encode()
    return [
        ("empty.npz", b""),
        ("cut.npz", whole[: len(whole) // 2]),
        ("text.npz", b"no archive at all"),
        ("objects.npz", objects.read_bytes()),
        ("huge.npz", huge.read_bytes()),
        ("empty.safetensors", b""),
        ("cut.safetensors", tensors[:-9]),
        ("text.safetensors", b"no tensors at all, but a text"),
        ("far.safetensors", struct.pack("<Q", len(far)) + far),
        ("list.safetensors", struct.pack("<Q", 2) + b"[]"),
    ]


def test_a_damaged_file_is_told_and_nothing_in_it_runs(tmp_path: Path) -> None:
    for name, content in _forged(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CompressitError, match=name.replace(".", r"\.")):
            _ = _dataset(path).inputs.shape, _dataset(path).classes


def test_bytes_that_changed_inside_an_archive_are_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_x=X, train_y=Y)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    at = raw.index(X.tobytes()[:40])
    raw[at] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(CompressitError, match="cannot be read"):
        _loaded(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "told"), [("no.npz", "there is no file"), ("a.csv", "neither"), ("f.npz", "not a regular file")]
)
def test_what_is_no_file_of_arrays_is_told(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    os.mkfifo(tmp_path / "f.npz")
    with pytest.raises(CompressitError, match=told):
        _ = _dataset(tmp_path / name).inputs.shape


@pytest.mark.parametrize("name", WRITERS)
def test_planning_imports_neither_torch_nor_numpy(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, {"train_x": X, "train_y": Y})
    code = f"""
import sys
from compressit_plugins.data.tensors import Tensors, TensorsConfig
plugin = Tensors(TensorsConfig(file={str(tmp_path / name)!r}))
plugin.fingerprint(), plugin.inputs, plugin.classes, plugin.class_names, plugin.train_size, plugin.doubts()
assert not {{"torch", "numpy", "safetensors"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("warm_workers")
def test_it_conforms(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_x=X.repeat(4, 0), train_y=Y.repeat(4), test_x=X, test_y=Y)
    subject = Subject.of("data.tensors", {"file": str(tmp_path / "a.npz")})
    assert [o for o in outcomes(checks_for(subject), subject) if o.status == "failed"] == []


def test_from_python_a_path_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", train_x=X, train_y=Y)
    monkeypatch.chdir(tmp_path)
    data = compressit.data("data.tensors", file=Path("a.npz"), announce=lambda text: None)
    assert len(data.train) == 24
    assert any("no test arrays" in doubt for doubt in data.doubts)


def test_early_stopping_uses_the_files_own_validation_arrays_and_no_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_x=X, train_y=Y, validation_x=X[6:9], validation_y=Y[6:9])
    recipe = """
version: 1
name: own
data: {uses: data.tensors, with: {file: a.npz%s}}
model: {uses: model.mlp, with: {hidden: [4]}}
stages: {train: {uses: train.supervised, with: {epochs: 2, patience: 1}}}
"""
    (tmp_path / "own.yaml").write_text(recipe % "")
    assert compressit.load_recipe(tmp_path / "own.yaml").variants
    (tmp_path / "own.yaml").write_text(recipe % ", validation: 0.2")
    with pytest.raises(CompressitError, match=r"data\.with\.validation cuts a split, and the data have one"):
        compressit.load_recipe(tmp_path / "own.yaml")
