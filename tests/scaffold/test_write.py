"""What is there stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressit.errors import CompressitError
from compressit.scaffold.write import write_new


def test_files_are_written_with_their_folders(tmp_path: Path) -> None:
    write_new({tmp_path / "a/b/c.txt": "ä\n", tmp_path / "d.txt": ""})
    assert (tmp_path / "a/b/c.txt").read_text(encoding="utf-8") == "ä\n"
    assert (tmp_path / "d.txt").exists()


def test_nothing_is_written_where_one_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(CompressitError, match=r"b\.txt: already there") as caught:
        write_new({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"})
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    assert (tmp_path / "b.txt").read_text() == "mine"
