"""Errors for users. They say where, what is wrong with the actual value, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from compressit.printable import block, folded, line

MOST_SHOWN = 50  # mistakes of a recipe shown at once
MOST_NAMES = 100  # known names that a hint compares or lists


@dataclass(frozen=True)
class Mark:
    """A place in the user's text: a recipe file or a `--set` argument."""

    source: str
    line: int | None = None  # 1-based
    column: int | None = None  # 1-based
    snippet: str | None = None  # the line itself, for the caret

    @property
    def typed(self) -> bool:
        """Whether it is an argument of the command line, like `--set`."""
        return self.line is None and self.source.startswith("--")

    def __str__(self) -> str:
        if self.line is None:
            return self.source
        return f"{self.source}:{self.line}:{self.column or 1}"


@dataclass(frozen=True)
class Problem:
    """One mistake: `where: message`, the line with a caret, and help."""

    message: str
    where: Mark | None = None
    hint: str | None = None

    def __str__(self) -> str:
        told = folded(self.message)
        where = line(self.where) if self.where else ""
        again = not where or told.startswith(f"{where} ")  # a path of keys, which messages begin with
        lines = [told if again else f"{where}: {told}"]
        if self.where and self.where.snippet is not None and self.where.line is not None:
            gutter = f"{self.where.line:>5} | "
            lines.append(gutter + "".join(c if c == "\t" else line(c) for c in self.where.snippet))
            before = self.where.snippet[: (self.where.column or 1) - 1]
            # keep tabs, so that the caret is below its column
            indent = "".join("\t" if c == "\t" else " " * len(line(c)) for c in before)
            lines.append(" " * (len(gutter) - 2) + "| " + indent + "^")
        if self.hint:
            lines.append(f"      help: {folded(self.hint)}")
        return "\n".join(lines)


class CompressitError(Exception):
    """A mistake that the user can fix; shown without a traceback. `exit_code` 2: nothing was run."""

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        told = folded(self.message)
        return f"{told}\n      help: {folded(self.hint)}" if self.hint else told


class SeveralErrors(CompressitError):  # noqa: N818 - the plural is the point
    """Several errors. The message has several lines, ready to print."""

    def __str__(self) -> str:
        return self.message


class RecipeError(SeveralErrors):
    """All problems found in a recipe."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        more = f" ({count - MOST_SHOWN:,} not shown)" if count > MOST_SHOWN else ""
        tail = f"{count:,} problem{'s' if count != 1 else ''}{more}, nothing was run"
        super().__init__("\n".join([*(str(p) for p in self.problems[:MOST_SHOWN]), tail]))


class StageFailed(SeveralErrors):
    """A stage failed; everything else that could run has run. Exit code 1."""

    exit_code = 1


class NoEffectError(CompressitError):
    """A compressor changed nothing: a selector matched nothing, or a sparsity rounded to zero weights."""

    exit_code = 1


FOREIGN = (Exception, SystemExit, GeneratorExit, BaseExceptionGroup)
"""What to catch around third-party code outside workers. KeyboardInterrupt comes from the user there."""

LONGEST_TEXT = 2000  # characters kept of a plugin's error text; its traceback is complete


def sound(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text that is safe to print, store and send: `printable.block` of its first `longest` characters."""
    if len(text) > longest:
        text = f"{text[:longest]} … ({len(text)} characters)"
    return block(text)


def told(error: BaseException) -> str:
    """`RuntimeError: its text`, safe for any exception class and text."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - third-party __str__
        text = f"(its __str__ raises {type(second).__name__})"
    return sound(f"{type(error).__name__}: {text}")


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the most similar known names, or all known names if none is similar; None if there are none."""
    names = sorted(known)
    # Comparing is slow: of thousands of names, compare only those with a similar beginning and length, and no long
    # ones.
    near = sorted(names, key=lambda name: (name[:2] != word[:2], abs(len(name) - len(word))))[:MOST_NAMES]
    close = get_close_matches(word, near, n=3, cutoff=0.5) if len(word) <= 100 else []
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"known: {', '.join(names[:MOST_NAMES])}{more}" if names else None


def place_in(error: BaseException, files: Sequence[Path]) -> str:
    """` (mine.py:17)`: the innermost line of the traceback in these files and folders; empty if there is none."""
    import traceback

    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if any(file == path or path in file.parents for path in files):
            return f" ({file.name}:{frame.lineno})"
    return ""
