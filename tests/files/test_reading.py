"""What somebody else may have put there is read without waiting for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from compressit.files.reading import content, digest, file_digest, opened

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
            with pytest.raises(OSError, match=r"not a regular file|No such device"):
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
