"""A file with a pickle in it is told from its bytes, however it came there; nothing else is."""

from __future__ import annotations

import copyreg
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from compressit.testing.pickles import is_pickle, pickles

# {"a": 1}, as pickle.dumps writes it by each protocol (Python 3.11)
PICKLED = {
    0: b"(dp0\nVa\np1\nI1\ns.",
    1: b"}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
    2: b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
    3: b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
    4: b"\x80\x04\x95\n\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    5: b"\x80\x05\x95\n\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
}


@pytest.mark.parametrize("protocol", PICKLED)
def test_every_protocol_is_known(protocol: int) -> None:
    assert is_pickle(PICKLED[protocol])


def test_torch_and_numpy_files_are_looked_into(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(300, 300)}
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "c.npy", np.array([copyreg], dtype=object).astype(str))
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "e.npz", x=np.zeros(3))
    np.savez(tmp_path / "f.npz", x=np.array([{"a": 1}], dtype=object))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "g.bin").write_bytes(PICKLED[4] + b"\0" * 2_000_000)
    found = pickles(tmp_path)
    assert [name.split()[0] for name in found] == ["a.pt", "b.pt", "d.npy", "deep/g.bin", "f.npz"]
    assert found[0] == "a.pt (a/data.pkl)"


def test_a_pickle_longer_than_what_is_read_is_found(tmp_path: Path) -> None:
    text = b"x" * 3_000_000
    size = len(text).to_bytes(4, "little")
    (tmp_path / "long").write_bytes(b"\x80\x02]q\x00(K\x01X" + size + text + b"e.")
    assert pickles(tmp_path) == ["long"]


def test_what_a_run_writes_is_none(tmp_path: Path) -> None:
    save_file({"weight": torch.randn(50, 50)}, tmp_path / "model.safetensors")
    (tmp_path / "results.json").write_text(json.dumps({"rows": [], "a": None}))
    (tmp_path / "page.html").write_text("<!doctype html>\n<p>N.</p>")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert pickles(tmp_path) == []


@given(st.binary(max_size=200))
def test_bytes_that_only_begin_like_one_are_none(tail: bytes) -> None:
    assert not is_pickle(b"\x80\x01" + tail)
    assert not is_pickle(b"\x89PNG" + tail)
