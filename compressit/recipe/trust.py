"""Asks whether a recipe's plugin file may run: once for each content of the file and the modules beside it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError
from compressit.files import reading
from compressit.files.sealed import parse, plain
from compressit.files.writing import replace
from compressit.printable import line
from compressit.recipe.model import LocalPlugin

_MOST_LISTED = 20  # files in a question
_MOST_BYTES = 2**22  # of trusted.json
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def ask(plugin: LocalPlugin) -> bool:
    """True if exactly this content was trusted before, or the user says yes now. Without a terminal, False.

    The question goes to stderr, since stdout may be piped. It lists the files that would run; if an earlier content
    of this plugin was trusted, it lists what changed.
    """
    known = _known()
    if any(entry["digest"] == plugin.digest for entry in known):
        return True
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):  # to answer, and to see the question
        return False
    path = plain(str(plugin.path.resolve()))
    before = next((entry["files"] for entry in reversed(known) if entry["path"] == path), None)
    sys.stderr.write(f"{_question(plugin, before)} [y/N] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().lower()
    except (OSError, ValueError):  # closed meanwhile, or not text
        return False
    if answer not in ("y", "yes"):
        return False
    with contextlib.suppress(OSError, CompressitError):  # if it cannot be saved, we ask again next time
        _remember([*known, {"path": path, "digest": plugin.digest, "files": plain(dict(plugin.files))}])
    return True


def _question(plugin: LocalPlugin, before: Mapping[str, str] | None) -> str:
    told = f"{line(plugin.path)} is code that this recipe wants to run"
    now = dict(plugin.files)
    if before is None and len(now) < 2:
        return f"{told}. Have you read it, and should it run?"
    listed = list(_changes(now, before))
    more = [f"… and {len(listed) - _MOST_LISTED} more"] if len(listed) > _MOST_LISTED else []
    since = "" if before is None else ". Since your last yes"
    head = f"{told}{since or ', with modules beside it'}:"
    rows = "\n".join(f"  {line(row)}" for row in [*listed[:_MOST_LISTED], *more])
    return f"{head}\n{rows}\nHave you read {'them' if before is None else 'what changed'}, and should it run?"


def _changes(now: Mapping[str, str], before: Mapping[str, str] | None) -> Iterator[str]:
    """A line for each file, changed files first."""
    if before is None:
        yield from now
        return
    yield from (f"changed    {name}" for name in now if name in before and before[name] != now[name])
    yield from (f"new        {name}" for name in now if name not in before)
    yield from (f"gone       {name}" for name in before if name not in now)
    yield from (f"as it was  {name}" for name in now if before.get(name) == now[name])


def _is_terminal(stream: Any) -> bool:
    """Whether the stream is a terminal. It may be closed or missing."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _known() -> list[dict[str, Any]]:
    """The trusted contents, oldest first. Empty if another user could have written the file."""
    try:
        with reading.opened(_file()) as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS_WRITE:
                return []
            text = file.read(_MOST_BYTES + 1)
        known = parse(text) if len(text) <= _MOST_BYTES else None
    except (OSError, ValueError, CompressitError):
        return []
    return [entry for entry in known if _is_entry(entry)] if isinstance(known, list) else []


def _remember(entries: list[dict[str, Any]]) -> None:
    """Replaces trusted.json, readable by this user only. Drops the oldest entries if too large. Raises OSError."""
    while len(text := json.dumps(entries, indent=1).encode()) > _MOST_BYTES:
        entries = entries[1 + len(entries) // 8 :]
    if _file().exists() and _file().stat().st_uid != os.geteuid():
        raise PermissionError("the file belongs to another user")
    replace(_file(), text, mode=0o600)


def _is_entry(entry: Any) -> bool:
    wanted = {"path": str, "digest": str, "files": dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in wanted.items())


def _file() -> Path:
    from compressit.paths import default_cache

    return default_cache() / "trusted.json"
