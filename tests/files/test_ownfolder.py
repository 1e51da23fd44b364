"""A run folder that came with somebody's repository: nothing outside it is written, emptied or removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from compressit.errors import CompressitError
from compressit.files.ownfolder import OwnFolder
from compressit.files.sealed import write_sealed

NAMES = [
    "run.json",
    "results.csv",
    "checkpoints/real/train.safetensors",
    "figures/a.png",
    "logs/worker-1.log",
]


@pytest.fixture
def own(tmp_path: Path) -> OwnFolder:
    (tmp_path / "run").mkdir()
    return OwnFolder(tmp_path / "run")


def test_files_and_their_folders_are_written_found_and_removed(own: OwnFolder) -> None:
    for name in NAMES:
        assert own.find(name) is None
        own.write(name, b"x")
        assert own.find(name) == own.root / name
        own.remove(name)
        assert not (own.root / name).exists()
    assert list(own.root.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_link_below_it_is_followed(own: OwnFolder, tmp_path: Path, name: str) -> None:
    """Neither in the file's place nor in that of any folder on the way."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious").write_text("precious")
    parts = Path(name).parts
    for depth in range(len(parts)):
        link = own.root.joinpath(*parts[: depth + 1])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home / "precious" if depth == len(parts) - 1 else home)
        with pytest.raises(CompressitError, match="is a link") as caught:
            own.write(name, b"x")
        assert "--out" in str(caught.value.hint)
        with pytest.raises(CompressitError, match="is a link"):
            own.fresh(name)
        assert own.find(name) is None
        own.remove(name)
        assert own.digests({name}) == {}
        link.unlink()
    assert [path.name for path in home.iterdir()] == ["precious"]
    assert (home / "precious").read_text() == "precious"


def test_another_name_of_a_file_keeps_its_content(own: OwnFolder, tmp_path: Path) -> None:
    """A hard link: what is written takes its place, and opens nothing that is there."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in NAMES:
        (own.root / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(precious, own.root / name)
        own.write(name, b"x")
        (own.root / name).unlink()
        os.link(precious, own.root / name)
        own.fresh(name).close()
    assert precious.read_text() == "precious"
    os.link(precious, own.root / ".lock")
    with pytest.raises(CompressitError, match="hard link"), own.writing(print):
        pass
    assert precious.read_text() == "precious"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    os.chdir(path.parent)  # its path may have 108 bytes
    socket.socket(socket.AF_UNIX).bind(path.name)


@pytest.mark.parametrize("make", [_pipe, _socket, Path.mkdir])
@pytest.mark.parametrize("name", ["run.json", "results.json", ".lock", "logs/worker-1.log"])
def test_what_is_no_file_is_named_and_stays(
    own: OwnFolder, name: str, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.root)
    (own.root / name).parent.mkdir(exist_ok=True)
    make(own.root / name)
    kind = (own.root / name).stat().st_mode
    with pytest.raises(CompressitError, match=rf"{name} is a (pipe|socket|folder)"):
        own.place(name)
    if name == ".lock":
        with pytest.raises(CompressitError, match="is a"), own.writing(print):
            pass
    assert own.facts() is None
    assert (own.root / name).stat().st_mode == kind


@pytest.mark.parametrize(
    ("name", "words"),
    [("../x", "leads out"), ("checkpoints/../../x", "leads out"), ("/tmp/x", "leads out")]
    + [(name, "not a valid file name") for name in ("", ".", "checkpoints/a\0b", "\0")],
)
def test_no_name_leads_out_of_it_and_a_list_may_hold_names_that_are_none(
    own: OwnFolder, name: str, words: str
) -> None:
    with pytest.raises(CompressitError, match=words):
        own.write(name, b"x")
    assert own.find(name) is None
    assert own.digests({name}) == {}
    own.remove(name)


def test_a_folder_that_no_run_made_is_refused(own: OwnFolder) -> None:
    own.require_ours()  # empty
    (own.root / "thesis.txt").write_text("x")
    with pytest.raises(CompressitError, match=r"not a run folder: it contains thesis\.txt"):
        own.require_ours()
    (own.root / "results.csv").write_text("x")
    (own.root / "run.json").write_text("{}")
    with pytest.raises(CompressitError, match=r"it contains thesis\.txt"):
        own.require_ours()
    own.note({"files": {}, "state": "written"})
    own.require_ours()  # a run's, in which somebody keeps notes
    (own.root / "run.json").write_text("")
    (own.root / "thesis.txt").unlink()
    own.require_ours()  # a run's, whose list is damaged


@pytest.mark.parametrize("files", [[], 7, None, {"a": 7}, {"a": None}])
def test_a_list_of_another_form_is_none(own: OwnFolder, files: object) -> None:
    write_sealed(own.root / "run.json", {"format": 2, "files": files})
    assert own.facts() is None or own.facts() == {"format": 2, "files": {}}


def test_it_may_itself_be_a_link_of_its_users(tmp_path: Path) -> None:
    """To a bigger disk, say: what is below it is looked at."""
    (tmp_path / "big").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "big")
    OwnFolder(tmp_path / "run").write("results.csv", b"x")
    assert (tmp_path / "big/results.csv").read_bytes() == b"x"
