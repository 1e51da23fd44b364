"""Streams that stop nothing."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from compressit.printable import Forgiving


def test_what_can_be_written_is_written(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w", encoding="ascii") as file:
        stream = Forgiving(file)
        assert stream.write("häufig \ud800\n") == 9
        stream.writelines(["one\n", "two\n"])
        print("three", file=stream, flush=True)
        assert stream.name == file.name
        stream.close()
        print("four", file=stream)
    assert (tmp_path / "file").read_text() == "h\\xe4ufig \\ud800\none\ntwo\nthree\nfour\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_a_closed_pipe_a_closed_file_and_none_are_no_errors() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    closed = io.StringIO()
    closed.close()
    full = os.open("/dev/full", os.O_WRONLY)
    files = [os.fdopen(descriptor, "w", buffering=1) for descriptor in (full, writer)]
    for stream in (*files, closed, None):
        forgiving = Forgiving(stream)
        for _ in range(3):
            assert forgiving.write("word\n") == 5
            print("word", file=forgiving, flush=True)
    for file in files:
        with pytest.raises(OSError, match=r"No space|Broken pipe"):
            file.close()
