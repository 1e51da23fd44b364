from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from compressit.checkpoint.header import copy_with, read_header, verify
from compressit.checkpoint.manifest import Manifest, decode, encode
from compressit.errors import CompressitError

from . import forge


def test_the_header_says_where_every_tensor_is(saved: Path) -> None:
    header = read_header(saved)
    tensors = load_file(saved)
    assert {name: info.shape for name, info in header.tensors.items()} == {
        name: tuple(t.shape) for name, t in tensors.items()
    }
    content = saved.read_bytes()
    for name, info in header.tensors.items():
        begin, end = info.offsets
        expected = tensors[name].numpy().tobytes()
        assert content[header.start + begin : header.start + end] == expected


def test_reading_a_header_imports_no_torch_and_no_numpy(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from compressit.checkpoint.header import read_header, copy_with, verify\n"
        "from compressit.checkpoint.inspect import facts, render\n"
        "path = Path(sys.argv[1]); read_header(path); verify(path); render(facts(path))\n"
        "copy_with(path, path.with_name('copy.safetensors'), metrics={'a': 1.0})\n"
        "print([m for m in ('torch', 'numpy', 'safetensors') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_copy_has_the_new_lineage_and_metrics_and_the_same_tensors(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "copy.safetensors"
    copy_with(
        saved,
        target,
        lineage=[{"stage": "a"}, {"stage": "b"}],
        metrics={"accuracy": 0.5, "nan": float("nan")},
    )
    before, after = read_header(saved), verify(target)
    assert [step["stage"] for step in after.manifest.lineage] == ["a", "b"]
    assert after.manifest.metrics == {"accuracy": 0.5, "nan": None}
    assert after.manifest.model == before.manifest.model
    assert after.manifest.tensors_sha256 == before.manifest.tensors_sha256
    assert all(torch.equal(t, load_file(saved)[name]) for name, t in load_file(target).items())
    copy_with(saved, saved, metrics={"accuracy": 0.25})
    assert verify(saved).manifest.metrics == {"accuracy": 0.25}, "it may replace its source"


def test_a_copy_that_fails_leaves_the_target_and_no_rubbish(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.safetensors"
    target.write_bytes(b"precious")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CompressitError, match=r"target\.safetensors: No space left"):
        copy_with(saved, target, metrics={})
    assert target.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == [saved.name, target.name]


def test_what_json_cannot_hold_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="cannot store this"):
        copy_with(saved, tmp_path / "x.safetensors", lineage=[{"stage": object()}])
    with pytest.raises(CompressitError, match="cannot store this"):
        copy_with(saved, tmp_path / "x.safetensors", lineage=[{"loss": float("inf")}])
    assert not (tmp_path / "x.safetensors").exists()


def test_one_metadata_key_of_canonical_json(saved: Path) -> None:
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["compressit"]
    text = metadata["compressit"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert encode(decode(text)) == text


def _refused(path: Path, message: str) -> str:
    with pytest.raises(CompressitError, match=message) as error:
        read_header(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 2000
    return str(error.value)


def _with_header(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_no_such_file(tmp_path: Path) -> None:
    _refused(tmp_path / "nothing.safetensors", "No such file")
    _refused(tmp_path, "Is a directory")


@pytest.mark.parametrize(
    "content",
    [
        b"hi",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x02}q\x00." * 30,
        struct.pack("<Q", 2**40),
        struct.pack("<Q", 2**22),
    ],
)
def test_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    _refused(path, "not a safetensors file|truncated|not valid JSON")


def test_what_is_no_regular_file_is_refused_at_once(saved: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        for read in (read_header, verify, lambda path: copy_with(path, tmp_path / "copy")):
            with pytest.raises(CompressitError, match="not a regular file"):
                read(path)
    (tmp_path / "link2").symlink_to(saved)
    assert verify(tmp_path / "link2").tensors == read_header(saved).tensors


def test_a_plain_safetensors_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"w": torch.zeros(2)}, path, {"format": "pt"})
    _refused(path, "not a compressit checkpoint")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_offsets": [4, 48]}, "overlaps another or leaves a gap"),
        ({"data_offsets": [48, 0]}, "overlaps|bytes"),
        ({"data_offsets": [0, 2**62]}, "bytes|overlaps"),
        ({"data_offsets": [-4, 48]}, "malformed"),
        ({"shape": [2**31, 2**31]}, "not match its shape"),
        ({"shape": [-1, -12]}, "malformed"),
        ({"shape": [True]}, "malformed"),
        ({"shape": "12"}, "malformed"),
        ({"shape": [1] * 64 + [12]}, "malformed"),
        ({"dtype": "F31"}, "unknown type"),
        ({"more": 1}, "malformed"),
        (None, "malformed"),
    ],
)
def test_places_must_be_exact(saved: Path, change: dict[str, Any] | None, message: str) -> None:
    table, entry, data = forge.parts(saved)
    first = min(table, key=lambda name: table[name]["data_offsets"])
    table[first] = change and {**table[first], **change}
    _refused(forge.write(saved, table, entry, data), message)


def test_a_gap_between_tensors_is_refused(saved: Path) -> None:
    table, entry, data = forge.parts(saved)
    names = sorted(table, key=lambda name: table[name]["data_offsets"])
    for name in names[1:]:
        table[name]["data_offsets"] = [at + 8 for at in table[name]["data_offsets"]]
    end = table[names[0]]["data_offsets"][1]
    hidden = data[:end] + b"\x80\x02hidden" + data[end:]
    _refused(forge.write(saved, table, entry, hidden), "leaves a gap")


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [2**62, 0, 3], [0] + [2**7] * 9])
def test_an_empty_tensor_has_a_shape_that_torch_can_have(saved: Path, shape: list[int]) -> None:
    table, entry, data = forge.parts(saved)
    table["extra"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data)]}
    _refused(forge.write(saved, table, entry, data), "'extra' has impossible shape")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":1,"a":2}', "duplicate key"),
        (b'{"__metadata__":{"note":NaN}}', "NaN is not allowed"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"' + b"x" * 200_000 + b'":{}}', "is malformed"),
        (b'{"a":[' + b"1," * 2**21 + b"1]}", "more than 1048576 values"),
        *(('{"a":{}}'.encode(code), "not valid JSON") for code in ("utf-16", "utf-16-be", "utf-32-le")),
    ],
    ids=["twice", "NaN", "deep", "a list", "a long name", "many", "utf-16", "utf-16-be", "utf-32"],
)
def test_a_header_that_is_no_json_of_ours_is_refused(tmp_path: Path, header: bytes, message: str) -> None:
    """Other readers of safetensors take UTF-8 alone."""
    _refused(_with_header(tmp_path / "x.safetensors", header), message)


@pytest.mark.parametrize("version", [0, 2, 99, "1", "2", None, True, 1.5])
def test_only_a_higher_format_was_written_by_a_newer_version(saved: Path, version: object) -> None:
    told = _refused(
        forge.forged(saved, lambda entry: entry.update(format=version)), f"its format is {version!r}"
    )
    newer = version in (2, 99)
    assert ("upgrade" in told, "damaged" in told) == (newer, not newer)


def test_a_description_changed_without_its_digest_is_refused(saved: Path) -> None:
    table, entry, data = forge.parts(saved)
    entry["metrics"] = {"test_accuracy": 1.0}
    for changed in (entry, {**entry, "sha256": "0" * 64}):
        _refused(forge.write(saved, table, changed, data, sign=False), "its metadata was changed")


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1}, {"tied": [["a"]]}, {"tied": "ab"},
        {"edits": [{"do": "call", "at": "", "function": "os.system"}]},
        {"edits": [{"do": "set", "at": 3, "attrs": {}}]}, {"metrics": {"a": "high"}}, {"lineage": ["train"]},
        {"model": {"name": "tiny.mlp"}}, {"parameters": -1}, {"tensors_sha256": None}, {"parameters": "3"},
        {"probe": {"dtype": "float32", "output_shape": [2, 5], "values": [], "tolerance": 1e9}},
        {"parameters": 3.0}, {"metrics": {"a": True}}, {"reshaped": 1}, {"lineage": [1] * 10**6},
    ],
)  # fmt: skip
def test_a_malformed_description_is_refused(saved: Path, change: dict[str, object]) -> None:
    _refused(forge.forged(saved, lambda entry: entry.update(change)), "its metadata is malformed")


@pytest.mark.parametrize(
    "text", ["[]", "1", "null", "", "{", '{"format":NaN}', '{"format":' + "[" * 10**5 + "]" * 10**5 + "}"]
)
def test_a_description_that_is_no_object_is_refused(saved: Path, text: str) -> None:
    table, _, data = forge.parts(saved)
    _refused(forge.write(saved, table, text, data), "description")


def test_verify_finds_a_changed_tensor_and_a_changed_name(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-3] ^= 1
    path = saved.with_name("flipped.safetensors")
    path.write_bytes(content)
    read_header(path)
    with pytest.raises(CompressitError, match="its tensors were changed"):
        verify(path)
    table, entry, data = forge.parts(saved)
    swapped = {**table, "1.bias": table["4.bias"], "4.bias": table["1.bias"]}
    with pytest.raises(CompressitError, match="its tensors were changed"):
        verify(forge.write(path, swapped, entry, data))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lineage=st.lists(st.dictionaries(st.text(), _JSON, max_size=4), max_size=3),
    metrics=st.dictionaries(st.text(), st.floats()),
)
def test_any_description_comes_back_and_is_stable(lineage: list[dict], metrics: dict[str, float]) -> None:
    manifest = Manifest.of(
        model=None, input=None, tensors_sha256="", versions={}, lineage=lineage, metrics=metrics
    )
    again = decode(encode(manifest))
    assert again == manifest
    assert encode(again) == encode(manifest)
    assert [dict(step) for step in again.lineage] == lineage


def test_a_file_of_torch_asks_for_an_import(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "net.pth")
    with pytest.raises(CompressitError) as caught:
        read_header(tmp_path / "net.pth")
    assert "compressit import" in str(caught.value.hint)
