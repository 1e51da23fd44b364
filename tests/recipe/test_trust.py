"""A recipe's plugin file runs only after a yes, which is remembered for that content."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from compressit.recipe import trust
from compressit.recipe.model import LocalPlugin
from compressit.recipe.trust import ask

PLUGIN = LocalPlugin(Path("/somewhere/mine.py"), "d1")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trusted.json"


def _remembered(file: Path) -> list[str]:
    return [entry["digest"] for entry in json.loads(file.read_text())]


def _answer(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """What is typed at the terminal; None: there is no terminal."""
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n") if text is None else _Terminal(text))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)


def test_without_a_terminal_nobody_can_say_yes(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    assert not remembered.exists()


def test_a_question_that_nobody_sees_is_not_asked(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, "y\n")
    monkeypatch.setattr("sys.stderr", io.StringIO())  # as with `2>log`
    assert not ask(PLUGIN)


def test_a_path_that_is_no_utf8_costs_no_other_yes(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = LocalPlugin(Path("/some\udce9where/mine.py"), "d2", (("h\udce9lp.py", "d3"),))
    _answer(monkeypatch, "y\ny\n")
    assert ask(PLUGIN)
    assert ask(odd)
    _answer(monkeypatch, None)
    assert ask(PLUGIN), "what was trusted before stays trusted"
    assert ask(odd)
    assert _remembered(remembered) == ["d1", "d2"]


@pytest.mark.parametrize("text", ["y\n", "yes\n", " YES \n"])
def test_a_yes_is_remembered_for_that_content_only(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    _answer(monkeypatch, text)
    assert ask(PLUGIN)
    shown = capsys.readouterr()
    assert "/somewhere/mine.py is code that this recipe wants to run" in shown.err
    assert shown.out == "", "stdout may be piped"
    _answer(monkeypatch, None)
    assert ask(PLUGIN)
    assert ask(LocalPlugin(Path("/elsewhere/other.py"), "d1")), "the same bytes under another name"
    assert not ask(LocalPlugin(PLUGIN.path, "d2")), "edited since"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["n\n", "\n", "", "yep\n", "yes please\n"])
def test_anything_but_yes_is_no_and_is_not_remembered(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    _answer(monkeypatch, text)
    assert not ask(PLUGIN)
    assert not remembered.exists()


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "3", "null", '{"d1": true}', "\x00", '["d1"]', '[{"digest": "d1"}]', "[" * 100_000,
        '[{"path": "/somewhere/mine.py", "digest": "d1", "files": 3}]',
    ],
    ids=lambda content: content[:20],
)  # fmt: skip
def test_a_damaged_memory_trusts_nothing(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    remembered.parent.mkdir()
    remembered.write_text(content)
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert _remembered(remembered) == ["d1"]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_memory_that_others_may_write_trusts_nothing_and_is_ones_own_after_the_next_yes(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert remembered.stat().st_mode & 0o777 == 0o600
    remembered.chmod(mode)
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert remembered.stat().st_mode & 0o777 == 0o600


def test_another_users_memory_trusts_nothing(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    _answer(monkeypatch, None)
    assert ask(PLUGIN)
    before = remembered.read_bytes()
    user = remembered.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not ask(PLUGIN)
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert remembered.read_bytes() == before, "it is somebody else's"


def test_a_link_in_its_place_is_replaced_and_what_it_leads_to_stays(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    remembered.parent.mkdir()
    (tmp_path / "precious").write_text("[]")
    remembered.symlink_to(tmp_path / "precious")
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert (tmp_path / "precious").read_text() == "[]"
    assert _remembered(remembered) == ["d1"]


def test_a_memory_without_end_is_not_read_to_its_end(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered.parent.mkdir()
    with remembered.open("wb") as file:
        file.truncate(1 << 42)
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    monkeypatch.setattr(trust, "_MOST_BYTES", 1000)
    for number in range(20):
        _answer(monkeypatch, "y\n")
        assert ask(LocalPlugin(PLUGIN.path, f"d{number}"))
    _answer(monkeypatch, None)
    assert ask(LocalPlugin(PLUGIN.path, "d19"))
    assert not ask(LocalPlugin(PLUGIN.path, "d0")), "the oldest made room"


def test_a_yes_counts_even_where_it_cannot_be_written(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered.parent.write_text("a file where the folder should be")
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)


def test_a_question_shows_what_would_run_and_the_next_one_what_changed(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mine, pack = tmp_path / "mine.py", tmp_path / "pack"
    pack.mkdir()
    mine.write_text("import helper, pack, other\n")
    for name in ("helper.py", "other.py", "pack/__init__.py", "pack/deep.py", "unrelated.py"):
        (tmp_path / name).write_text("x = 1\n")
    _answer(monkeypatch, "y\n")
    assert ask(LocalPlugin.read(mine))
    first = capsys.readouterr().err
    assert all(
        name in first for name in ("mine.py", "helper.py", "other.py", "pack/__init__.py", "pack/deep.py")
    )
    assert "unrelated" not in first
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    _answer(monkeypatch, None)
    assert ask(LocalPlugin.read(mine)), "what cannot be imported does not count"

    (tmp_path / "helper.py").write_text("x = 2\n")
    (pack / "new.py").write_text("x = 2\n")
    (tmp_path / "other.py").unlink()
    assert not ask(LocalPlugin.read(mine))
    _answer(monkeypatch, "y\n")
    assert ask(LocalPlugin.read(mine))
    lines = [text.split() for text in capsys.readouterr().err.splitlines()]
    for told in ("changed helper.py", "new pack/new.py", "gone other.py", "as it was mine.py"):
        assert told.split() in lines


class _Closed(io.StringIO):
    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


class _NoText(_Terminal):
    def readline(self, size: int = -1, /) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize("stdin", [None, _Closed(), _NoText()], ids=["none", "closed", "no text"])
def test_where_nobody_can_answer_the_answer_is_no(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    assert not ask(PLUGIN)
    monkeypatch.setattr("sys.stderr", None)
    assert not ask(PLUGIN)


def test_a_hostile_path_cannot_steer_the_terminal_that_asks(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _answer(monkeypatch, "n\n")
    ask(LocalPlugin(Path("/x\x1b[2J\nsafe.py is fine\u202e/m.py"), "d", (("a\x1b.py", "1"), ("m.py", "2"))))
    shown = capsys.readouterr().err
    assert shown.replace("\n", "").isprintable()
    assert not any(text.startswith("safe") for text in shown.splitlines())
