"""What becomes of a stage whose progress cannot be saved: nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import BASE, Lab, same
from torch import ones

from compressit.store.objects import Store
from compressit.store.progress import StoredProgress

KEY = "ab" + "0" * 62


def _announced(lab: Lab) -> list[str]:
    return [event["announce"] for event in lab.events if "cannot be saved" in event.get("announce", "")]


def test_a_stage_goes_on_whose_progress_cannot_be_saved_and_says_it_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", save_every=0.0)
    plan = lab.plan(BASE)
    lab.store.root.mkdir(parents=True)
    (lab.store.root / "progress").write_text("no folder")
    lab.run(plan)
    [said] = _announced(lab)
    assert said.startswith("base/seed0/train: its progress cannot be saved")
    assert str(lab.store.root / "progress") in said
    sound = Lab(tmp_path / "sound", save_every=0.0)
    sound.run(sound.plan(BASE))
    assert _announced(sound) == []
    assert same(lab.model(plan, "base/seed0/train"), sound.model(plan, "base/seed0/train"))


@pytest.mark.parametrize("facts", [{"notes": {"it": object()}}, {"epoch": 1}])
def test_whatever_keeps_it_from_being_saved_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, object]
) -> None:
    store = Store(tmp_path)
    said: list[str] = []
    progress = StoredProgress(store, KEY, 0.0, said.append)
    progress.save({"weight": ones(2)}, {"epoch": 0})
    with monkeypatch.context() as patch:
        if "notes" not in facts:
            patch.setattr(os, "fsync", _full)
        for _ in range(3):
            progress.save({"weight": ones(3)}, facts)
    assert len(said) == 1
    saved = progress.load()
    assert saved is not None
    assert (len(saved[0]["weight"]), saved[1]) == (2, {"epoch": 0})
    assert len(list((tmp_path / "progress" / KEY).glob("state-*"))) == 1, "no half state fills the disk"
    progress.save({"weight": ones(4)}, {"epoch": 4})
    saved = progress.load()
    assert saved is not None
    assert len(saved[0]["weight"]) == 4


@pytest.mark.parametrize("seconds", [None, "3", -1.0, [1]])
def test_a_sealed_file_of_another_kind_is_damaged_and_told(tmp_path: Path, seconds: object) -> None:
    store = Store(tmp_path)
    said: list[str] = []
    store.save_progress(KEY, {"seconds": seconds, "facts": {}}, lambda path: path.write_bytes(b""))
    assert StoredProgress(store, KEY, 0.0, said.append).load() is None
    store.save_progress(KEY, {"seconds": 1.0, "facts": {}}, lambda path: path.write_bytes(b"no tensors"))
    assert StoredProgress(store, KEY, 0.0, said.append).load() is None
    assert [("damaged" in text) for text in said] == [True, True]


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
