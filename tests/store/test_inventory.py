"""What a store holds, what of it may go, and that nothing outside it ever does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compressit.store.inventory import Inventory, damaged, look, remove, waste
from compressit.store.objects import Store

USED, UNUSED = "ab" + "0" * 62, "cd" + "0" * 62


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two results, of which a run folder uses one."""
    store = Store(tmp_path / "store")
    for key in (USED, UNUSED):
        store.publish(key, {"seconds": 1}, lambda folder: (folder / "model.safetensors").write_text("x" * 50))
    (tmp_path / "run").mkdir()
    store.note(tmp_path / "run", [USED])
    return store


def _found(store: Store) -> Inventory:
    return look(store.root)


def _waste(store: Store) -> dict[str, str]:
    return {found.entry.name: found.why for found in waste(store, _found(store))}


def _collect(store: Store) -> list[str | None]:
    return [remove(store.root, found.entry) for found in list(waste(store, _found(store)))]


def _object(store: Store, key: str) -> Path:
    return store.root / "objects" / key[:2] / key


def _progress(store: Store, key: str) -> None:
    store.save_progress(key, {"epoch": 1}, lambda file: file.write_text("state") and None)


def test_what_no_run_folder_uses_goes_and_the_rest_stays(store: Store) -> None:
    assert _found(store).used == {USED}
    size = 50 + (_object(store, USED) / "manifest.json").stat().st_size
    assert {entry.bytes for entry in _found(store).of("result") if entry.key == USED} == {size}
    assert list(_waste(store)) == [f"objects/cd/{UNUSED}"]
    assert _collect(store) == [None]
    assert (store.find(USED) is not None, store.find(UNUSED)) == (True, None)
    assert _waste(store) == {}


def test_a_result_is_used_as_long_as_a_run_folder_is_made_from_it(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "two\udcff"
    other.mkdir()
    store.note(other, [UNUSED])
    assert _waste(store) == {}
    store.note(other, [USED])
    assert list(_waste(store)) == [f"objects/cd/{UNUSED}"], "it is made from other results now"
    other.rmdir()
    (tmp_path / "run").rmdir()
    assert {found.folder for found in _found(store).gone} == {str(tmp_path / "run"), str(other)}
    assert len(_collect(store)) == 4
    assert _found(store).entries == []


def test_what_killed_runs_left_goes(store: Store) -> None:
    _progress(store, USED)  # of a result that is there
    half = "ef" + "0" * 62
    (store.root / "tmp" / f"{half}.{'0' * 32}").mkdir(parents=True)
    (store.root / "tmp" / f"damaged.{'0' * 32}").mkdir()
    (store.root / "progress" / half).mkdir()
    (store.root / "progress" / half / "state-0.safetensors").write_text("half")
    (store.root / "locks").mkdir(exist_ok=True)
    (store.root / "locks" / f"{USED}.lock").touch()
    old, new = store.root / ".history.json.0123456789ab.tmp", store.root / ".history.json.0123456789ac.tmp"
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    assert len(_waste(store)) == 7
    assert set(_collect(store)) == {None}
    assert [e.name for e in _found(store).entries if e.kind != "run"] == [f"objects/ab/{USED}"]
    assert new.exists(), "somebody may be writing it now"
    assert store.find(USED) is not None


def test_saved_progress_that_a_run_folder_needs_stays_unless_it_is_damaged(
    store: Store, tmp_path: Path
) -> None:
    begun = "ef" + "0" * 62
    store.note(tmp_path / "run", [USED, UNUSED, begun])
    _progress(store, begun)
    assert _waste(store) == {}
    next((store.root / "progress" / begun).glob("state-*")).write_text("stata")
    assert list(_waste(store)) == [f"progress/{begun}"]


def test_what_another_process_holds_stays(store: Store) -> None:
    code = f"""
import sys
from pathlib import Path
from compressit.store.objects import Store
with Store(Path({str(store.root)!r})).lock({UNUSED!r}):
    print("held", flush=True)
    sys.stdin.read()
"""
    listed = list(waste(store, _found(store)))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert _waste(store) == {}
        told = remove(store.root, listed[0].entry)  # locked only after it was listed
        assert str(process.pid) in str(told)
        assert store.find(UNUSED) is not None
    finally:
        process.communicate("")
    assert _collect(store) == [None]


def test_while_a_note_is_damaged_no_result_counts_as_unused(store: Store, tmp_path: Path) -> None:
    note = next((store.root / "runs").iterdir())
    note.write_text(note.read_text().replace("ab0", "ab1"))
    assert _waste(store) == {}
    assert [found.entry.name for found in damaged(store, _found(store))] == [f"runs/{note.name}"]
    note.unlink()
    store.note(tmp_path / "run", [USED])
    note.rename(note.with_name("0" * 64 + ".json"))
    assert list(_found(store).unread) == [f"runs/{'0' * 64}.json"], "the note of another folder"


@pytest.mark.parametrize("damage", ["byte", "file", "manifest", "link", "pipe", "swap"])
def test_damage_is_found_and_can_be_taken_away(store: Store, tmp_path: Path, damage: str) -> None:
    folder = _object(store, USED)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    if damage == "byte":
        (folder / "model.safetensors").write_text("y" * 50)
    elif damage == "file":
        (folder / "model.safetensors").unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{}")
    else:
        shutil.rmtree(folder)
        if damage == "link":
            (kept / "model.safetensors").write_text("z")
            folder.symlink_to(kept)
        elif damage == "pipe":
            os.mkfifo(folder)
        else:
            shutil.copytree(_object(store, UNUSED), folder)
    listed = list(damaged(store, _found(store)))
    assert [found.entry.name for found in listed] == [f"objects/ab/{USED}"]
    assert remove(store.root, listed[0].entry) is None
    assert list(damaged(store, _found(store))) == []
    assert len(list(kept.iterdir())) == 2, "what a link leads to stays"
    store.publish(USED, {"seconds": 2})
    assert store.find(USED) is not None


@pytest.mark.parametrize("place", ["objects", "objects/cd", "progress", "tmp", "locks", "runs"])
def test_a_link_in_the_place_of_a_folder_leads_nowhere(store: Store, tmp_path: Path, place: str) -> None:
    _progress(store, UNUSED)
    (store.root / "tmp" / f"{UNUSED}.{'0' * 32}").mkdir(parents=True)
    (store.root / "locks" / f"{UNUSED}.lock").parent.mkdir(exist_ok=True)
    (store.root / "locks" / f"{UNUSED}.lock").touch()
    listed = list(waste(store, _found(store)))
    outside = tmp_path / "outside"
    (store.root / place).rename(outside)
    before = sorted(outside.rglob("*"))
    (store.root / place).symlink_to(outside)
    for found in listed:  # also where it was a folder when it was looked at
        remove(store.root, found.entry)
    _collect(store)
    assert sorted(outside.rglob("*")) == before
    assert place in {entry.name for entry in _found(store).of("foreign")}


def test_foreign_things_stay_and_are_named(store: Store) -> None:
    strange = [
        "notes.txt",
        "objects/readme",
        "objects/ab/notes",
        "progress/mine",
        "locks/x",
        "tmp/x",
        "runs/x",
    ]
    for name in strange:
        (store.root / name).parent.mkdir(exist_ok=True)
        (store.root / name).mkdir()
        (store.root / name / "file").write_text("mine")
    (store.root / "objects" / "ff").symlink_to(store.root.parent)
    _collect(store)
    named = {entry.name for entry in _found(store).of("foreign")}
    assert named == {*strange, "objects/ff"}
    assert all((store.root / name / "file").exists() for name in strange)


def test_the_store_writes_and_removes_nothing_behind_a_link(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "state-mine.safetensors").write_text("mine")
    (store.root / "progress").mkdir(exist_ok=True)
    (store.root / "progress" / UNUSED).symlink_to(outside)
    _progress(store, UNUSED)
    assert store.load_progress(UNUSED) is not None
    shutil.rmtree(_object(store, UNUSED))
    _object(store, UNUSED).symlink_to(outside)
    store.publish(UNUSED, {"seconds": 3})
    found = store.find(UNUSED)
    assert found is not None
    assert found.seconds == 3
    (store.root / "progress").rename(tmp_path / "moved")
    (store.root / "progress").symlink_to(tmp_path / "moved")
    (tmp_path / "moved" / UNUSED).mkdir()
    store.publish(UNUSED, {"seconds": 3})
    assert (tmp_path / "moved" / UNUSED).is_dir()
    shutil.rmtree(store.root / "objects")
    (store.root / "objects").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        store.publish(UNUSED, {"seconds": 3})
    assert [path.name for path in outside.iterdir()] == ["state-mine.safetensors"]
    assert (outside / "state-mine.safetensors").read_text() == "mine"
