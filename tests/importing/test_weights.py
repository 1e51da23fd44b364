"""Files that people have, as plain safetensors files: what is taken, renamed, copied, left out, refused."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from compressit.checkpoint.weights import read
from compressit.errors import CompressitError
from compressit.importing.statedict import tidied
from compressit.importing.weights import import_weights

NET = OrderedDict({"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)})


def _under(prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in NET.items()}


def _imported(folder: Path, content: Any, **options: Any) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of the imported file, and what is said."""
    file = folder / "x.pth"
    torch.save(content, file, **options.pop("save", {}))
    lines = import_weights(file, folder / "x.safetensors", **options).lines()
    return load_file(folder / "x.safetensors"), "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        NET,
        {"state_dict": NET, "epoch": 3, "best": torch.tensor(0.5)},
        {
            "model": NET,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(500)}}, "param_groups": [{"lr": 1}]},
        },
        {"model_state_dict": _under("module."), "optimizer_state_dict": {"momentum": torch.ones(99)}},
        {"ema": {"decay": 0.99, "shadow": NET}},
        {"state_dict": _under("model.")},
        _under("_orig_mod."),
        _under("module._orig_mod.model."),
        {**_under("module."), "n_averaged": torch.tensor(7)},
        {"a._orig_mod.weight": NET["a.weight"], "a.bias": NET["a.bias"]},
        {"a.weight": nn.Parameter(torch.ones(2, 3)), "a.bias": torch.zeros(2), "note": "text"},
    ],
    ids=[
        "plain",
        "nested",
        "training",
        "wrapped",
        "shadow",
        "lightning",
        "compiled",
        "all",
        "averaged",
        "part",
        "p",
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_people_save_is_found(tmp_path: Path, content: Any, zipped: bool) -> None:
    found, _ = _imported(tmp_path, content, save={"_use_new_zipfile_serialization": zipped})
    assert found.keys() == NET.keys()
    assert all(torch.equal(found[name], NET[name]) for name in NET)


def test_the_net_is_taken_rather_than_its_average_unless_asked(tmp_path: Path) -> None:
    average = {name: value + 1 for name, value in NET.items()}
    content = {"ema": {**average, "n_averaged": torch.tensor(3)}, "model": dict(NET), "epoch": 3}
    found, said = _imported(tmp_path, content)
    assert torch.equal(found["a.bias"], torch.zeros(2))
    assert "took `model`" in said
    assert "left out: ema (3 tensors; --take ema takes them), epoch (int)" in said
    found, said = _imported(tmp_path, content, take="ema")
    assert torch.equal(found["a.bias"], torch.ones(2))
    assert "n_averaged (Tensor)" in said
    with pytest.raises(CompressitError, match="--take em: no tensors are there") as caught:
        _imported(tmp_path, content, take="em")
    assert "did you mean 'ema'" in str(caught.value.hint)


def test_it_says_what_it_did(tmp_path: Path) -> None:
    _, said = _imported(tmp_path, {"state_dict": _under("module."), "best": 91.5})
    assert said.splitlines() == [
        f"{tmp_path}/x.pth: took `state_dict`",
        "left out: best (float)",
        "renamed: 2 tensors, without `module.` (--keep-names keeps the names)",
        "2 tensors, 8 values (float32):",
        "  a.weight (2, 3)",
        "  a.bias (2,)",
        f"wrote {tmp_path}/x.safetensors",
        "next, in a recipe: model: {uses: …, weights: x.safetensors}",
    ]


def test_names_can_be_kept(tmp_path: Path) -> None:
    assert _imported(tmp_path, _under("model."), keep_names=True)[0].keys() == _under("model.").keys()


@pytest.mark.parametrize(
    "names", [["module.a", "b"], ["model.a", "module.b"], ["module.", "module.a"], ["modules.a"]]
)
def test_a_prefix_of_some_names_is_part_of_them(names: list[str]) -> None:
    assert tidied(names).names == dict(zip(names, names, strict=True))


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(CompressitError, match="would both be called 'a'"):
        tidied(["a", "_orig_mod.a"])


def test_shared_and_transposed_tensors_are_stored_each_in_full(tmp_path: Path) -> None:
    big = torch.arange(12.0).reshape(3, 4)
    found, said = _imported(tmp_path, {"a": big, "b": big, "c": big.T, "d": big[1], "e": torch.empty(0)})
    assert torch.equal(found["b"], big)
    assert torch.equal(found["c"], big.T)
    assert torch.equal(found["d"], big[1])
    assert "though they share memory: b, d" in said


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_types_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    value = torch.ones(3, dtype=dtype)
    assert _imported(tmp_path, {"x": value})[0]["x"].dtype == dtype


def test_conjugates_are_computed(tmp_path: Path) -> None:
    value = torch.tensor([1 + 2j])
    assert torch.equal(_imported(tmp_path, {"x": value.conj()})[0]["x"], torch.tensor([1 - 2j]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nn.Linear(2, 2), "an object of torch.nn.modules.linear.Linear: a whole model"),
        ({"state_dict": dict(NET), "path": Path("x")}, "an object of pathlib"),
        (torch.ones(3), "holds no names with tensors, but a Tensor"),
        ([NET], "but a list"),
        ({"epoch": 3, "lr": 0.1}, "but a dict of epoch, lr"),
        ({"x": torch.eye(3).to_sparse()}, "'x' cannot be stored: torch.float32, torch.sparse_coo"),
        ({"x": torch.ones(2, dtype=torch.complex128)}, "'x' cannot be stored: torch.complex128"),
        ({"x": torch.empty(2, device="meta")}, "'x' cannot be stored: .* on meta"),
        ({"__metadata__": torch.ones(2)}, "does not allow a tensor named"),
    ],
    ids=["module", "path", "tensor", "list", "numbers", "sparse", "complex", "meta", "name"],
)  # fmt: skip
def test_other_content_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(CompressitError, match=rf"x\.pth: .*{words}"):
        _imported(tmp_path, content)
    assert not (tmp_path / "x.safetensors").exists()


def test_nothing_of_a_file_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for zipped in (True, False):
        with pytest.raises(CompressitError, match="refused"):
            _imported(tmp_path, {"x": Evil(), **NET}, save={"_use_new_zipfile_serialization": zipped})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(tmp_path: Path, zipped: bool, part: float) -> None:
    file = tmp_path / "x.pth"
    torch.save({"x": torch.ones(1000), "y": torch.ones(5)}, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])
    with pytest.raises(CompressitError, match=r"x\.pth: it is damaged or cut short"):
        import_weights(file, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<html>", "it begins with other bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"\x80\x02}.", "damaged"),
        (b"PK\x03\x04" + bytes(60), "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CompressitError, match=rf"x\.bin: .*{words}"):
        import_weights(tmp_path / "x.bin", tmp_path / "x.safetensors")


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(CompressitError, match="a zip archive, but not"):
        import_weights(tmp_path / "x.pt", tmp_path / "x.safetensors")
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:  # as torch.jit.save writes it
        archive.writestr("x/constants.pkl", "…")
        archive.writestr("x/data.pkl", "…")
    with pytest.raises(CompressitError, match="TorchScript"):
        import_weights(tmp_path / "x.pt", tmp_path / "x.safetensors")


def test_a_safetensors_file_is_tidied_too(tmp_path: Path) -> None:
    _imported(tmp_path, _under("model."), keep_names=True)
    import_weights(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert read(tmp_path / "y.safetensors").keys() == NET.keys()


def test_an_import_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    _imported(tmp_path, NET)
    once = (tmp_path / "x.safetensors").read_bytes()
    _imported(tmp_path, {"model": _under("module."), "epoch": 3})
    assert (tmp_path / "x.safetensors").read_bytes() == once
