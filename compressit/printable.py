"""Makes text from files and plugins safe to print: a terminal or page must show it, not execute it.

Replaces every character that is neither printable nor a space by its Python escape: control codes, which begin
terminal commands; marks that change the reading direction; unpaired surrogates, as in file names that are not UTF-8.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any


def line(text: object) -> str:
    """Text on one line: line breaks are escaped too."""
    told = str(text)
    return told if told.isprintable() else "".join(map(_shown, told))


def block(text: object) -> str:
    """Text on several lines: keeps line breaks and tabs."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c.isprintable() or c in "\n\t" else _shown(c) for c in told)


def folded(text: object) -> str:
    """Foreign text inside a message: every line after the first gets a mark."""
    first, *rest = str(text).splitlines() or [""]
    return "".join([line(first), *(f"\n      | {line(more)}" for more in rest)])


class Printable:
    """A text stream that escapes unprintable characters and writes to `stream`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for characters that the terminal's encoding lacks

    def write(self, text: str) -> int:
        """Writes text and returns its length."""
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

    Text that cannot be written is lost. Everything else is passed to the stream.
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
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # closed, or None if the process was started without the stream
            pass
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes what can be written."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream if possible."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def close(self) -> None:
        """Only flushes: others write to the stream too."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Escapes everything that this process prints from now on, and ignores a full or closed stderr.

    Replaces missing standard streams by os.devnull: otherwise the next opened file would get the stream's number and
    receive what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
    sys.stdout = Printable(sys.stdout)  # type: ignore[assignment]
    sys.stderr = Printable(Forgiving(sys.stderr))  # type: ignore[assignment]


def _shown(character: str) -> str:
    from unicodedata import category  # seldom needed, and loads a shared library

    return character if character.isprintable() or category(character) == "Zs" else repr(character)[1:-1]
