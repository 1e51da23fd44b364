"""Files are the old content or the new one, under any name that the file system takes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from compressit.files.writing import TEMPORARY, beside, move_together, replace, replacing


@pytest.mark.parametrize("name", ["a", "x" * 255, "\u6a21" * 85])
def test_the_longest_names_are_taken(tmp_path: Path, name: str) -> None:
    replace(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert TEMPORARY.fullmatch(beside(tmp_path / name).name)


def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(bytes([1 // 0]))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "a").symlink_to(tmp_path / "theirs")
    replace(tmp_path / "a", b"new", mode=0o600)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_files_that_belong_together_are_moved_together_whoever_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    arrived: list[list[str]] = []
    before = signal.signal(number, lambda number, frame: arrived.append(_texts(tmp_path / "there")))
    for folder in ("made", "there"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            (tmp_path / folder / name).write_text(folder)
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        replace(source, target)
        os.kill(os.getpid(), number)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted)
            move_together("abc", tmp_path / "made", tmp_path / "there")
        assert arrived == [["made"] * 3], "once, when all were there"
        os.kill(os.getpid(), number)
        assert len(arrived) == 2, "whoever listened listens again"
    finally:
        signal.signal(number, before)


def _texts(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.iterdir())]
