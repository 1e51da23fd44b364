"""What a terminal, or a page, may be sent: text of files and plugins in it is shown, never obeyed.

A character that is neither printable nor a space (control codes, which begin a terminal's commands; marks that turn
the reading direction; halves of surrogate pairs, as in file names that are no UTF-8) is replaced by its escape as
Python writes it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any


def line(text: object) -> str:
    """One line: breaks in it are shown as escapes too, so that it cannot begin another."""
    told = str(text)
    return told if told.isprintable() else "".join(map(_shown, told))


def block(text: object) -> str:
    """Lines: line breaks and tabs stay."""
    told = str(text)
    return "".join(c if c in "\n\t" else _shown(c) for c in told)


def folded(text: object) -> str:
    """Somebody's text inside a message of ours: lines after its first are marked as its own."""
    first, *rest = str(text).splitlines() or [""]
    return "".join([line(first), *(f"\n      | {line(more)}" for more in rest)])


class Printable:
    """A text stream that shows what is not printable. `stream`: the one it writes to."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal's encoding lacks

    def write(self, text: str) -> int:
        """Writes text; returns how many characters of it."""
        if not isinstance(text, str):
            raise TypeError(f"text expected, not {type(text).__name__}")
        self.stream.write(block(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Forgiving:
    """A text stream that never raises: a full disk, a closed pipe or terminal, a character it cannot encode.

    What cannot be written is lost. Everything else is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what can be written."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError, AttributeError):  # closed, or None where the process was started without
            pass
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes what can be written."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Passes on what can be passed on."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def close(self) -> None:
        """Leaves it open: others write to it too."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """From now on nothing that this process prints reaches the terminal as it is, and a stderr that is full or closed
    stops nothing. A stream that the process was started without leads nowhere: the next file that is opened would get
    its number, and what is printed with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
    sys.stdout = Printable(sys.stdout)  # type: ignore[assignment]
    sys.stderr = Printable(Forgiving(sys.stderr))  # type: ignore[assignment]


def _shown(character: str) -> str:
    from unicodedata import category  # seldom needed, and a library of its own

    return character if character.isprintable() or category(character) == "Zs" else repr(character)[1:-1]
