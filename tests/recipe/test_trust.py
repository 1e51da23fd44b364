"""A recipe's plugin file runs only after a yes, which is remembered for that content."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compressit.recipe import trust
from compressit.recipe.model import LocalPlugin
from compressit.recipe.trust import ask

PLUGIN = LocalPlugin(Path("/somewhere/mine.py"), "d1")
Answer = Callable[[str | None], None]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trusted.json"


@pytest.fixture
def answer(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What is typed at the terminal; None: there is no terminal."""

    def answer(text: str | None) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n") if text is None else _Terminal(text))
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    return answer


def _digests(file: Path) -> list[str]:
    return [entry["digest"] for entry in json.loads(file.read_text())]


@pytest.mark.parametrize("text", ["y\n", "yes\n", " YES \n"])
def test_a_yes_is_remembered_for_that_content_only(
    answer: Answer, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    answer(text)
    assert ask(PLUGIN)
    shown = capsys.readouterr()
    assert "/somewhere/mine.py is code that this recipe wants to run" in shown.err
    assert shown.out == "", "stdout may be piped"
    answer(None)
    assert ask(PLUGIN)
    assert ask(LocalPlugin(Path("/elsewhere/other.py"), "d1")), "the same bytes under another name"
    assert not ask(LocalPlugin(PLUGIN.path, "d2")), "edited since"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", [None, "n\n", "\n", "", "yep\n", "yes please\n"])
def test_anything_but_yes_is_no_and_is_not_remembered(
    answer: Answer, remembered: Path, text: str | None
) -> None:
    """None: without a terminal nobody can say it."""
    answer(text)
    assert not ask(PLUGIN)
    assert not remembered.exists()


class _Closed(io.StringIO):
    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


class _NoText(_Terminal):
    def readline(self, size: int = -1, /) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    ("stream", "there"),
    [
        ("stdin", None),
        ("stdin", _Closed()),
        ("stdin", _NoText()),
        ("stderr", None),
        ("stderr", io.StringIO()),
    ],
)
def test_where_nobody_can_answer_or_see_the_question_the_answer_is_no(
    answer: Answer, monkeypatch: pytest.MonkeyPatch, stream: str, there: io.StringIO | None
) -> None:
    answer("y\n")
    monkeypatch.setattr(f"sys.{stream}", there)
    assert not ask(PLUGIN)


def test_several_contents_are_remembered_odd_names_among_them(answer: Answer, remembered: Path) -> None:
    odd = LocalPlugin(Path("/some\udce9where/mine.py"), "d2", (("h\udce9lp.py", "d3"),))  # no UTF-8
    plugins = (PLUGIN, odd, LocalPlugin(PLUGIN.path, "d3"))
    answer("y\n" * 3)
    assert all(ask(plugin) for plugin in plugins)
    answer(None)
    assert all(ask(plugin) for plugin in plugins)
    assert _digests(remembered) == ["d1", "d2", "d3"]


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "3", "null", '{"d1": true}', "\x00", '["d1"]', '[{"digest": "d1"}]', "[" * 100_000,
        '[{"path": "/somewhere/mine.py", "digest": "d1", "files": 3}]',
    ],
    ids=lambda content: content[:20],
)  # fmt: skip
def test_a_damaged_memory_trusts_nothing(answer: Answer, remembered: Path, content: str) -> None:
    remembered.parent.mkdir()
    remembered.write_text(content)
    answer(None)
    assert not ask(PLUGIN)
    answer("y\n")
    assert ask(PLUGIN)
    assert _digests(remembered) == ["d1"]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_memory_that_others_may_write_trusts_nothing_and_is_ones_own_after_the_next_yes(
    answer: Answer, remembered: Path, mode: int
) -> None:
    answer("y\n")
    assert ask(PLUGIN)
    remembered.chmod(mode)
    answer(None)
    assert not ask(PLUGIN)
    answer("y\n")
    assert ask(PLUGIN)
    assert remembered.stat().st_mode & 0o777 == 0o600


def test_another_users_memory_trusts_nothing_and_stays(
    answer: Answer, remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer("y\n")
    assert ask(PLUGIN)
    before = remembered.read_bytes()
    user = remembered.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    answer(None)
    assert not ask(PLUGIN)
    answer("y\n")
    assert ask(PLUGIN)
    assert remembered.read_bytes() == before


def test_a_link_in_its_place_is_replaced_and_what_it_leads_to_stays(
    answer: Answer, remembered: Path, tmp_path: Path
) -> None:
    remembered.parent.mkdir()
    (tmp_path / "precious").write_text("[]")
    remembered.symlink_to(tmp_path / "precious")
    answer("y\n")
    assert ask(PLUGIN)
    assert (tmp_path / "precious").read_text() == "[]"
    assert _digests(remembered) == ["d1"]


def test_a_memory_without_end_is_not_read_to_its_end_and_ours_has_one(
    answer: Answer, remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered.parent.mkdir()
    with remembered.open("wb") as file:
        file.truncate(1 << 42)
    answer(None)
    assert not ask(PLUGIN)
    monkeypatch.setattr(trust, "_MOST_BYTES", 1000)
    answer("y\n" * 20)
    assert all(ask(LocalPlugin(PLUGIN.path, f"d{number}")) for number in range(20))
    answer(None)
    assert ask(LocalPlugin(PLUGIN.path, "d19"))
    assert not ask(LocalPlugin(PLUGIN.path, "d0")), "the oldest made room"


def test_a_yes_counts_even_where_it_cannot_be_written(answer: Answer, remembered: Path) -> None:
    remembered.parent.write_text("a file where the folder should be")
    answer("y\n")
    assert ask(PLUGIN)


def test_a_question_shows_what_would_run_and_the_next_one_what_changed(
    answer: Answer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mine, pack = tmp_path / "mine.py", tmp_path / "pack"
    pack.mkdir()
    mine.write_text("import helper, pack, other\n")
    files = ["helper.py", "other.py", "pack/__init__.py", "pack/deep.py"]
    for name in (*files, "unrelated.py"):
        (tmp_path / name).write_text("x = 1\n")
    answer("y\n")
    assert ask(LocalPlugin.read(mine))
    first = capsys.readouterr().err
    assert all(name in first for name in ("mine.py", *files))
    assert "unrelated" not in first
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    answer(None)
    assert ask(LocalPlugin.read(mine)), "what cannot be imported does not count"

    (tmp_path / "helper.py").write_text("x = 2\n")
    (pack / "new.py").write_text("x = 2\n")
    (tmp_path / "other.py").unlink()
    assert not ask(LocalPlugin.read(mine))
    answer("y\n")
    assert ask(LocalPlugin.read(mine))
    lines = [" ".join(text.split()) for text in capsys.readouterr().err.splitlines()]
    assert {"changed helper.py", "new pack/new.py", "gone other.py", "as it was mine.py"} <= set(lines)


def test_a_hostile_path_cannot_steer_the_terminal_that_asks(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("n\n")
    ask(LocalPlugin(Path("/x\x1b[2J\nsafe.py is fine\u202e/m.py"), "d", (("a\x1b.py", "1"), ("m.py", "2"))))
    shown = capsys.readouterr().err
    assert shown.replace("\n", "").isprintable()
    assert not any(text.startswith("safe") for text in shown.splitlines())
