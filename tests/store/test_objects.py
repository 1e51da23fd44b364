"""The store: immutable, atomic, and honest about damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from compressit.files.sealed import digest_of
from compressit.store.objects import Store

KEY = "ab" + "0" * 62


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "store", warn=warnings.append)


def _publish(store: Store, text: str = "weights", key: str = KEY) -> None:
    store.publish(key, {"seconds": 1.5, "notes": {"n": 1}}, lambda folder: _write(folder, text))


def _write(folder: Path, text: str) -> None:
    (folder / "model.safetensors").write_text(text)
    (folder / "arrays.safetensors").write_text("more")


def test_what_is_published_is_found_with_all_it_says(store: Store) -> None:
    assert store.find(KEY) is None
    curves = {"loss": [(1.0, 0.5)]}
    published = store.publish(
        KEY,
        {"seconds": 1.5, "notes": {"n": 1}, "metrics": {"accuracy": 0.5}, "curves": curves},
        lambda folder: _write(folder, "weights"),
    )
    found = store.find(KEY)
    assert found == published
    assert found is not None
    assert found.model_file.read_text() == "weights"
    assert (found.notes, found.metrics, found.seconds) == ({"n": 1}, {"accuracy": 0.5}, 1.5)
    assert [tuple(point) for point in found.curves["loss"]] == curves["loss"]
    assert found.manifest["key"] == KEY
    assert list((store.root / "tmp").iterdir()) == []
    _publish(store, "second")
    assert store.find(KEY) == published, "a published result never changes"


def _flip(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[2] ^= 1
    file.write_bytes(data)


def _manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)


def _change(folder: Path, change: Callable[[dict[str, Any]], object], sign: bool = False) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if sign:
        del manifest["sha256"]
        manifest["sha256"] = digest_of(manifest)
    _manifest(folder, json.dumps(manifest))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flip,
    "cut short": lambda f: os.truncate(f / "model.safetensors", 2),
    "a missing file": lambda f: (f / "arrays.safetensors").unlink(),
    "half a manifest": lambda f: _manifest(f, (f / "manifest.json").read_text()[:40]),
    "an empty manifest": lambda f: _manifest(f, ""),
    "a manifest that is a list": lambda f: _manifest(f, "[1, 2]"),
    "another number": lambda f: _change(f, lambda m: m.update(seconds=2.5)),
    "an added field": lambda f: _change(f, lambda m: m.update(metrics={})),
    "no digest": lambda f: _change(f, lambda m: m.pop("sha256")),
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "no files": lambda f: _change(f, lambda m: m.update(files=[]), sign=True),
    "another key": lambda f: _change(f, lambda m: m.update(key=KEY[::-1]), sign=True),
    "a later format": lambda f: _change(f, lambda m: m.update(format=2), sign=True),
}
OTHER_TYPES: list[dict[str, Any]] = [
    {"seconds": "1"}, {"seconds": None}, {"metrics": {"a": "0.5"}}, {"metrics": [1]}, {"notes": []},
    {"curves": {"loss": [[1]]}}, {"curves": {"loss": [[1, "2"]]}}, {"curves": 5}, {"metrics": {"a": True}},
]  # fmt: skip
for wrong in OTHER_TYPES:
    DAMAGE[f"sealed {wrong}"] = partial(_change, change=methodcaller("update", wrong), sign=True)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_result_is_a_miss_with_a_warning_and_is_replaced(
    store: Store, warnings: list[str], damage: Callable[[Path], object]
) -> None:
    _publish(store, "old")
    damage(store.root / "objects" / "ab" / KEY)
    assert store.find(KEY) is None
    assert len(warnings) == 1
    assert KEY[:12] in warnings[0]
    _publish(store, "new")
    found = store.find(KEY)
    assert found is not None
    assert found.model_file.read_text() == "new"
    assert list((store.root / "tmp").iterdir()) == [], "the damaged one is not kept"


def test_what_json_cannot_hold_is_written_as_what_it_can(store: Store, warnings: list[str]) -> None:
    notes, curves = {10: (1, 2), 9: float("nan")}, {"loss": [(1.0, float("inf")), (2.0, 0.5)]}
    store.publish(KEY, {"seconds": 1, "notes": notes, "curves": curves})
    found = store.find(KEY)
    assert found is not None
    assert found.notes == {"10": [1, 2], "9": None}
    assert str(found.curves["loss"]) == "[(1.0, nan), (2.0, 0.5)]"
    assert not warnings


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    def write(folder: Path) -> None:
        _write(folder, "half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.publish(KEY, {"seconds": 1}, write)
    assert store.find(KEY) is None
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_process_killed_while_it_writes_leaves_nothing_to_find(store: Store) -> None:
    code = f"""
import os, signal
from pathlib import Path
from compressit.store.objects import Store
def write(folder):
    (folder / "model.safetensors").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Store(Path({str(store.root)!r})).publish({KEY!r}, {{"seconds": 1}}, write)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(list((store.root / "tmp").iterdir())) == 1
    assert store.find(KEY) is None
    with store.lock(KEY):
        _publish(store)
    assert store.find(KEY) is not None
    assert list((store.root / "tmp").iterdir()) == []


def test_what_stands_in_the_place_of_a_folder_is_told(store: Store) -> None:
    store.require_writable()
    assert list(store.root.iterdir()) == []
    (store.root / "objects").write_text("mine")
    with pytest.raises(OSError, match="not a folder") as caught:
        _publish(store)
    assert caught.value.filename == str(store.root / "objects")


def test_of_two_writers_at_once_one_wins_and_both_get_its_result(store: Store) -> None:
    both_written = threading.Barrier(2)
    results: list[str] = []

    def publish(text: str) -> None:
        def write(folder: Path) -> None:
            _write(folder, text)
            both_written.wait()

        results.append(store.publish(KEY, {"seconds": 1}, write).model_file.read_text())

    threads = [threading.Thread(target=publish, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert len(set(results)) == 1
    assert list((store.root / "tmp").iterdir()) == []


def test_what_killed_processes_left_goes_and_what_others_are_making_stays(store: Store) -> None:
    other = "cd" + KEY[2:]
    _save(store, "state", 1)
    _publish(store)
    _save(store, "state", 1)  # killed before it was removed
    store.save_progress(other, {"epoch": 1}, lambda file: file.write_bytes(b"") and None)
    for name in (f"{KEY}.half", f"{other}.half"):
        (store.root / "tmp" / name).mkdir()
    (store.root / "locks").mkdir(exist_ok=True)
    (store.root / "locks" / f"{KEY}.lock").touch()
    code = f"""
import sys, time
from pathlib import Path
from compressit.store.objects import Store
with Store(Path({str(store.root)!r})).lock({other!r}):
    Path({str(store.root / "tmp" / f"{other}.now")!r}).mkdir()
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    store.tidy([KEY, other, "ef" + KEY[2:]])
    assert [path.name for path in (store.root / "locks").iterdir()] == [f"{other}.lock"]
    assert [path.name for path in (store.root / "tmp").iterdir()] == [f"{other}.now"]
    assert [path.name for path in (store.root / "progress").iterdir()] == [other]
    process.communicate("")
    store.tidy([KEY, other])
    assert [*(store.root / "locks").iterdir(), *(store.root / "tmp").iterdir()] == []
    assert store.has_progress(other), "what was begun goes on"


# Progress


def _save(store: Store, text: str, epoch: int) -> None:
    store.save_progress(KEY, {"epoch": epoch}, lambda file: file.write_text(text) and None)


def test_progress_is_what_was_saved_last(store: Store) -> None:
    assert (store.has_progress(KEY), store.load_progress(KEY)) == (False, None)
    _save(store, "one", 1)
    _save(store, "two", 2)
    saved = store.load_progress(KEY)
    assert saved is not None
    assert (saved[0].read_text(), saved[1]["epoch"]) == ("two", 2)
    assert store.has_progress(KEY)
    assert len(list(saved[0].parent.glob("state-*"))) == 1, "older states are removed"
    _publish(store)
    assert not (store.root / "progress" / KEY).exists(), "the result is there"


def test_a_save_that_fails_keeps_the_state_before(store: Store) -> None:
    _save(store, "one", 1)

    def write(file: Path) -> None:
        file.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.save_progress(KEY, {"epoch": 2}, write)
    saved = store.load_progress(KEY)
    assert saved is not None
    assert (saved[0].read_text(), saved[1]["epoch"]) == ("one", 1)


def _facts(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps({**facts, **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: next(f.glob("state-*")).write_text("on3"),
        lambda f: (f / "progress.json").write_text("{"),
        lambda f: (f / "progress.json").write_text("[]"),
        lambda f: _facts(f, epoch=4),
        lambda f: _facts(f, tensors="../../elsewhere"),
    ],
)
def test_damaged_progress_is_no_progress_with_a_warning(
    store: Store, warnings: list[str], damage: Callable[[Path], object]
) -> None:
    _save(store, "one", 1)
    damage(store.root / "progress" / KEY)
    assert store.load_progress(KEY) is None
    assert "will not be used" in warnings[0]


def test_the_progress_of_another_stage_is_not_taken_for_its_own(store: Store, warnings: list[str]) -> None:
    _save(store, "one", 1)
    other = "cd" + KEY[2:]
    (store.root / "progress" / KEY).rename(store.root / "progress" / other)
    assert store.load_progress(other) is None
    assert "another stage" in warnings[0]
