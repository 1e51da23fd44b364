"""JSON files of our own: what is changed is damaged, whatever it was changed into."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path

import pytest

from compressit.files.sealed import digest_of, parse, read_sealed, sealed, write_sealed

FACTS = {"epoch": 12, "loss": 0.25, "curves": {"loss": [[1, 2.5]]}, "name": "é", "none": None, "yes": True}


def test_what_was_written_is_read_and_what_no_json_holds_as_what_it_can(tmp_path: Path) -> None:
    odd = {"nan": float("nan"), "inf": [float("-inf"), 1e300, 10**400], 7: (1, 2), "text": "caf\udce9\ud800"}
    write_sealed(tmp_path / "a.json", {**FACTS, **odd})
    assert read_sealed(tmp_path / "a.json") == {
        **FACTS, "nan": None, "inf": [None, None, None], "7": [1, 2], "text": "caf\\udce9\\ud800",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("seed", range(8))
def test_no_changed_byte_is_read_as_another_value(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "a.json"
    write_sealed(file, FACTS)
    whole = file.read_bytes()
    draw = random.Random(seed)
    for _ in range(60):
        changed = bytearray(whole)
        changed[draw.randrange(len(changed))] = draw.randrange(256)
        file.write_bytes(changed[: draw.randrange(len(changed))] if draw.random() < 0.2 else changed)
        with contextlib.suppress(ValueError):
            assert read_sealed(file) == FACTS, "spaces may change, values may not"


HOSTILE = {
    "deep": b"[" * 200 + b"]" * 200,
    "bottomless": b"[" * 500_000,
    "deep objects": b'{"a":' * 200 + b"1" + b"}" * 200,
    "NaN": b'{"a": NaN}',
    "Infinity": b"[-Infinity]",
    "overflowing": b"[1e400]",
    "nonsense": b"[1e300]",
    "a long integer": b"[" + b"9" * 400 + b"]",
    "an endless integer": b"[" + b"9" * 9000 + b"]",
    "twice": b'{"a": 1, "a": 2}',
    "no UTF-8": b'["\xff"]',
    "UTF-16": '["a"]'.encode("utf-16"),
    "a lone surrogate": b'["\\ud800"]',
    "a lone surrogate for a key": b'{"\\ud800": 1}',
    "nothing": b"",
    "a mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_a_value_error(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"."):
        read_sealed(tmp_path / "a.json")


def test_a_seal_of_ones_own_does_not_let_nonsense_in(tmp_path: Path) -> None:
    facts = {"seconds": 1e300}
    (tmp_path / "a.json").write_text(json.dumps({**facts, "sha256": digest_of(facts)}))
    with pytest.raises(ValueError, match="numbers"):
        read_sealed(tmp_path / "a.json")


def test_a_file_of_endless_length_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressit.files.sealed.MOST_BYTES", 10)
    (tmp_path / "a.json").write_text("[" + " " * 20 + "]")
    with pytest.raises(ValueError, match="10 bytes"):
        read_sealed(tmp_path / "a.json")


def test_links_from_and_to_a_file_keep_what_they_lead_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / "soft.json").symlink_to(precious)
    os.link(precious, tmp_path / "hard.json")
    for name in ("soft.json", "hard.json"):
        write_sealed(tmp_path / name, FACTS)
        assert read_sealed(tmp_path / name) == FACTS
    assert precious.read_text() == "x"


def test_too_deep_facts_cannot_be_sealed() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        sealed({"a": deep})
