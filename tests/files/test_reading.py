from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from compressit.files.reading import content, digest, file_digest, opened
from compressit.files.writing import move_together

ENDLESS = ("/dev/zero", "/dev/tty", "/proc/self/pagemap", "/proc/self/maps")


@pytest.fixture
def irregular(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A pipe that nobody writes to, a link to it, a socket, and what the system makes up as it is read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket has little room
    socket.socket(socket.AF_UNIX).bind("socket")
    made_up = [Path(name) for name in ENDLESS if os.access(name, os.R_OK)]
    return [*(tmp_path / name for name in ("pipe", "link", "socket")), *made_up]


def test_what_could_block_or_never_end_is_no_file(irregular: list[Path]) -> None:
    assert len(irregular) > 4
    for path in irregular:
        for read in (opened, content, digest):
            with pytest.raises(OSError, match=r"no regular file|No such device"):
                read(path)


def test_files_are_read_through_links_and_empty_ones_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "empty").touch()
    assert (content(tmp_path / "link"), content(tmp_path / "empty")) == (b"abc", b"")
    assert digest(tmp_path / "file").startswith("ba7816bf")  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "link") == digest(tmp_path / "file")
    for wrong in (tmp_path, tmp_path / "nothing", Path("a\0b"), Path("a" * 5000)):
        with pytest.raises(OSError, match=r"directory|null byte|too long"):
            content(wrong)


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
