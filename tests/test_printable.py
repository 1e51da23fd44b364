"""What a terminal may be sent: what is not printable is shown as its escape; and streams that stop nothing."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from unicodedata import category

import pytest

from compressit.errors import CompressitError, Mark, Problem, RecipeError, StageFailed
from compressit.printable import Forgiving, Printable, block, folded, line
from compressit.running.runner import Failure

# escapes and what ends them (C0, C1), DEL, bidi marks and isolates, zero-width and line separators, a lone surrogate
HOSTILE = (
    "\x00\x07\x08\x0b\x1b\x7f\x80\x85\x9b\u061c\u200b\u200f\u2028\u2029\u202e\u2066\ufeff\udcff\U000e0001"
)


@pytest.mark.parametrize("shown", [line, block, folded])
def test_every_character_that_steers_a_terminal_is_shown_as_its_escape(shown: object) -> None:
    assert callable(shown)
    told = str(shown(f"a{HOSTILE}b \x1b]0;title\x07\r"))
    assert all(c.isprintable() or c == "\n" for c in told)
    assert "\\x1b]0;title\\x07" in told
    told.encode("utf-8")


def test_of_all_code_points_none_passes_that_is_neither_printable_nor_a_space() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    for shown, breaks in ((line, ""), (block, "\n\t"), (folded, "\n")):
        assert all(c.isprintable() or category(c) == "Zs" or c in breaks for c in shown(every))


def test_words_of_any_language_stay_as_they_are() -> None:
    for text in ("Größe 5 µm", "漢字 кот", "é 🙂", "1\u202f000\u3000x", "a [bold]b[/bold] c\\n"):
        assert line(text) == block(text) == folded(text) == text


def test_foreign_text_cannot_begin_a_line_of_a_message() -> None:
    fake = "x'\nerror: fine\r\n      help: run this\u2028now"
    where = Mark("r.yaml\nerror: y", 1, 1, "a\x1b: b")
    for told in (
        CompressitError(fake, fake),
        RecipeError([Problem(fake, where, fake)]),
        StageFailed(str(Failure(fake, fake, fake))),
        Problem(fake, where),
    ):
        for written in str(told).split("\n"):
            assert not written.startswith(("error", "now"))
            assert not written.startswith("      help: run")
            assert written.isprintable()
    assert folded("one\ntwo") == "one\n      | two"


def test_a_caret_points_at_its_character_behind_escapes() -> None:
    told = str(Problem("m", Mark("r", 1, 4, "\x1b\tab: c")))
    text, caret = told.splitlines()[1:]
    assert text.expandtabs()[caret.expandtabs().index("^")] == "b"


def test_a_guarded_stream_writes_lines_and_tabs_and_shows_the_rest() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    stream = Printable(raw)
    assert stream.write("a\tb\n\x1b[2J") == 8
    stream.writelines(["ü", "\udcff\n"])
    stream.flush()
    assert raw.buffer.getvalue() == rb"a" + b"\tb\n" + rb"\x1b[2J\xfc\udcff" + b"\n"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        stream.write(b"x")  # type: ignore[arg-type]


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
