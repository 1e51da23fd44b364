"""A recipe's plugin file runs only after a yes, which is remembered for that content."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from compressit.recipe.model import LocalPlugin
from compressit.trust import ask

PLUGIN = LocalPlugin(Path("/somewhere/mine.py"), "d1")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trusted.json"


def _answer(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """What is typed at the terminal; None: there is no terminal."""
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n") if text is None else _Terminal(text))


def test_without_a_terminal_nobody_can_say_yes(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    assert not remembered.exists()


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


@pytest.mark.parametrize("content", ["", "{", "3", "null", '{"d1": true}', "\x00"])
def test_a_damaged_memory_trusts_nothing(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    remembered.parent.mkdir()
    remembered.write_text(content)
    _answer(monkeypatch, None)
    assert not ask(PLUGIN)
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
    assert json.loads(remembered.read_text()) == ["d1"]


def test_what_was_trusted_before_stays_trusted(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for digest in ("d1", "d2", "d3"):
        _answer(monkeypatch, "y\n")
        assert ask(LocalPlugin(PLUGIN.path, digest))
    _answer(monkeypatch, None)
    assert ask(PLUGIN)
    assert json.loads(remembered.read_text()) == ["d1", "d2", "d3"]


def test_a_yes_counts_even_where_it_cannot_be_written(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered.parent.write_text("a file where the folder should be")
    _answer(monkeypatch, "y\n")
    assert ask(PLUGIN)
