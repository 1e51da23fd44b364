"""Nets and places that an export may not be up to: a file that gives the same outputs, or the reason and nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import build, load, save
from compressit.checkpoint.probe import outputs
from compressit.errors import CompressitError
from compressit.exporting import torch_export
from compressit.exporting.export import ENDINGS, export
from compressit.exporting.subject import opened
from compressit.host.plugins import Host

from .conftest import CONV


@pytest.fixture(scope="module")
def awkward() -> Host:
    host = Host(entry_points=False)
    host.load_file(Path(__file__).with_name("awkward_models.py"))
    return host


def _saved(host: Host, folder: Path, gives: str, dtype: str = "float32") -> Path:
    architecture = Architecture("tiny.awkward", {"gives": gives, "dtype": dtype}, (1, 10, 10), 5)
    save(build(architecture, host), path := folder / "net.safetensors", architecture, host=host)
    return path


@pytest.mark.parametrize(
    ("gives", "dtype"),
    [("a named tuple", "float16"), ("a named tuple", "bfloat16"), ("a result of torch", "float64"),
     ("a dictionary", "float32"), ("a class of dictionary", "float32")],
)  # fmt: skip
def test_outputs_of_any_class_and_type_are_exported_as_plain_ones(
    awkward: Host, tmp_path: Path, gives: str, dtype: str
) -> None:
    path = _saved(awkward, tmp_path, gives, dtype)
    program = torch.export.load(export(path, "torch-export", host=awkward)).module()
    model, x = load(path, host=awkward), opened(path, awkward).x
    wanted, got = outputs(model, x), outputs(program, x)
    assert len(got) == len(wanted) == 2
    assert all(torch.allclose(one, other) for one, other in zip(got, wanted, strict=True))


@pytest.mark.extra("onnx")
def test_the_operator_that_onnx_lacks_is_named(awkward: Host, tmp_path: Path) -> None:
    path = _saved(awkward, tmp_path, "a pool")
    with pytest.raises(CompressitError, match="adaptive_max_pool2d") as caught:
        export(path, "onnx", host=awkward)
    assert "\x1b" not in str(caught.value)
    assert "torch-export" in str(caught.value.hint)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_torch_cannot_store_is_refused_with_its_reason(
    saved: Any, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise NotImplementedError("no \x1b[96msuch\x1b[0m type")

    path = saved(CONV)
    monkeypatch.setattr(torch_export.torch.export, "save", unable)
    with pytest.raises(CompressitError, match=r"cannot save .* no such type"):
        export(path, "torch-export", host=host)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("to", ["folder", "torch-export"])
def test_a_place_that_takes_nothing_is_named_and_what_was_there_stays(
    saved: Any, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    path, out = saved(CONV), tmp_path / "out" / f"net{ENDINGS[to]}"
    export(path, to, out, host=host)
    before = _contents(out.parent)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "as a disk would say")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CompressitError, match=r"cannot write .*net.*as a disk would say") as caught:
        export(path, to, out, host=host)
    assert "--out" in str(caught.value.hint)
    assert _contents(out.parent) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_file_where_a_folder_would_be_is_named(saved: Any, host: Host, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CompressitError, match=r"cannot write"):
        export(saved(CONV), "torch-export", tmp_path / "taken" / "net.pt2", host=host)
    assert (tmp_path / "taken").read_text() == "mine"
