"""Streams for people: whatever becomes of them, the work goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any


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
