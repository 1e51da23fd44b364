"""Which line of a net's own code runs, or failed: so that a message can name it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Iterator
from itertools import dropwhile
from pathlib import Path

import torch
import torch_pruning

import compressit

_OURS = (Path(__file__).parent, Path(compressit.__file__).parent)
_TORCH = (Path(torch.__file__).parent, Path(torch_pruning.__file__).parent)


def line_now() -> str:
    """` (shufflenetv2.py:23)`: the line of the net's code that is running; empty if its layers are torch's own."""
    frame, found = inspect.currentframe(), list[tuple[str, int]]()
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return _first(dropwhile(lambda at: _in(at[0], _OURS), found))


def line_of(error: BaseException) -> str:
    """The same for the line that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return _first((frame.filename, frame.lineno or 0) for frame in reversed(frames))


def _first(lines: Iterable[tuple[str, int]]) -> str:
    """The first that is not torch's. None behind one of ours: those lines call the net."""
    for file, line in _until_ours(lines):
        if not _in(file, _TORCH) and not file.startswith("<"):
            return f" ({Path(file).name}:{line})"
    return ""


def _until_ours(lines: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for file, line in lines:
        if _in(file, _OURS):
            return
        yield file, line


def _in(file: str, folders: Iterable[Path]) -> bool:
    return any(folder in Path(file).parents for folder in folders)
