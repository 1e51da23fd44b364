"""Lists a store's contents: which run folders use them, what is damaged, and what is no longer needed.

Others may be able to write to the store. Links are never followed: each counts as itself. Files whose names the store
does not use are reported and left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from compressit.contract.job import Job
from compressit.files.lock import held, holder, is_held
from compressit.files.reading import kind
from compressit.files.sealed import read_sealed
from compressit.files.writing import TEMPORARY
from compressit.store.objects import Store, Uses

Kind = Literal["result", "progress", "lock", "leftover", "run", "foreign"]
MOMENT = 3600.0  # maximum age in seconds of a temporary file that is still being written

_PLACES = ("objects", "progress", "locks", "tmp", "runs")
_FOLDER = re.compile(rf"{'|'.join(_PLACES)}|objects/[0-9a-f]{{2}}")
_OURS = re.compile(
    r"""
    objects/ (?P<short>[0-9a-f]{2}) / (?P<result>(?P=short)[0-9a-f]{62})
    | progress/ (?P<progress>[0-9a-f]{64})
    | locks/ (?P<lock>[0-9a-f]{64}) \.lock
    | tmp/ (?: (?P<leftover>[0-9a-f]{64}) | damaged) \.[0-9a-f]{32}
    | (?P<run>runs) / [0-9a-f]{64}\.json
    """,
    re.VERBOSE,
)
"""Paths of everything a store creates. The last matching group is named after the kind and holds the key."""


@dataclass(frozen=True)
class Entry:
    """One entry of the store."""

    kind: Kind
    name: str  # path relative to the store, with slashes
    bytes: int
    key: str | None = None  # of the job it belongs to
    label: str = ""  # of the job, if known; for a foreign entry, what is wrong with it


@dataclass(frozen=True)
class Inventory:
    """A snapshot of a store."""

    root: Path
    entries: Sequence[Entry]
    uses: Sequence[Uses]  # of run folders that exist
    gone: Sequence[Uses]  # of run folders that no longer exist
    unread: Mapping[str, str]  # damaged notes about run folders -> reason

    @property
    def used(self) -> set[str]:
        """The keys of all results that known run folders use."""
        return {key for use in self.uses for key in use.keys}

    def of(self, *kinds: Kind) -> list[Entry]:
        """All entries of these kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]


@dataclass(frozen=True)
class Waste:
    """An entry that can be removed, and why."""

    entry: Entry
    why: str


def look(root: Path) -> Inventory:
    """Collects names and sizes; reads manifests, but no results. Raises OSError if the store cannot be read."""
    entries = list(_entries(root))
    uses: list[Uses] = []
    unread: dict[str, str] = {}
    for entry in entries:
        if entry.kind == "run":
            try:
                uses.append(Uses.read(root / entry.name))
            except (OSError, ValueError, LookupError, TypeError) as error:
                unread[entry.name] = str(error)
    there = [use for use in uses if kind(Path(use.folder)) == "folder"]
    return Inventory(root, entries, there, [use for use in uses if use not in there], unread)


def waste(store: Store, found: Inventory) -> Iterator[Waste]:
    """Entries that can be removed: unused by any known run folder, left by killed processes, or damaged.

    Skips entries that another process is using. While a note about a run folder is damaged, nothing counts as unused.
    """
    used = found.used
    busy = {entry.key for entry in found.of("lock") if is_held(found.root / entry.name)}
    published = {entry.key for entry in found.of("result")}
    gone = {use.file for use in found.gone}
    for entry in found.entries:
        why = ""
        if entry.key is not None and entry.key in busy:
            continue
        if entry.kind == "progress" and entry.key in published and store.find(str(entry.key)) is not None:
            why = "its stage is finished"
        elif entry.kind in ("result", "progress"):
            is_unused = entry.key not in used and not found.unread
            why = "no run folder uses it" if is_unused else _damage(store, entry)
        elif entry.kind == "lock":
            why = "no process holds it"
        elif entry.kind == "leftover":
            why = "left by a killed process"
        elif entry.name in gone:
            why = "its run folder no longer exists"
        if why:
            yield Waste(entry, why)


def damaged(store: Store, found: Inventory) -> Iterator[Waste]:
    """Damaged entries. Reads every byte of every result and saved state."""
    for entry in found.of("result", "progress", "run"):
        why = found.unread.get(entry.name, "") if entry.kind == "run" else _damage(store, entry)
        if why:
            yield Waste(entry, why)


def remove(root: Path, entry: Entry) -> str | None:
    """Removes the entry unless another process is using it; returns the reason if it was not removed.

    Removes a link itself, never its target.
    """
    lock = root / "locks" / f"{entry.key}.lock"
    if kind(lock.parent) == "link":
        return "the store's folder 'locks' is a link, so locks cannot be checked"
    try:
        with contextlib.ExitStack() as stack:
            if entry.key is not None:
                stack.enter_context(held(lock, patience=0))
            if entry.kind != "lock":
                _remove(root, *entry.name.split("/"))
    except TimeoutError:
        return holder(lock)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _damage(store: Store, entry: Entry) -> str:
    return store.damage("result" if entry.kind == "result" else "progress", str(entry.key))


def _remove(root: Path, *names: str) -> None:
    """Removes the last of these names, following only real folders below the store, no links."""
    with contextlib.ExitStack() as stack:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        for name in names[:-1]:
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            stack.callback(os.close, folder)
        facts = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            shutil.rmtree(names[-1], dir_fd=folder)
        else:
            os.unlink(names[-1], dir_fd=folder)


def _entries(root: Path, below: str = "") -> Iterator[Entry]:
    try:
        names = sorted(os.listdir(root / below))
    except FileNotFoundError:  # removed in the meantime
        return
    for name in names:
        path = below + name
        is_folder = kind(root / path) == "folder"
        if _FOLDER.fullmatch(path) and is_folder:
            yield from _entries(root, f"{path}/")
        elif TEMPORARY.fullmatch(name) and below in ("", "runs/"):
            with contextlib.suppress(FileNotFoundError):  # it was renamed in the meantime
                if time.time() - (root / path).lstat().st_mtime > MOMENT:
                    yield Entry("leftover", path, _size(root / path))
        elif path != "history.json":
            yield _entry(root, path, is_folder)


def _entry(root: Path, path: str, is_folder: bool) -> Entry:
    found, size = _OURS.fullmatch(path), _size(root / path)
    if path in _PLACES:
        return Entry("foreign", path, size, label="not a folder, but the store needs one here")
    if found is None or (found["lock"] and kind(root / path) != "file"):
        return Entry("foreign", path, size, label="not created by the store")
    name = found.lastgroup or "leftover"
    key = None if name == "run" else found[name]
    if name == "progress" and is_folder and kind(root / path / "progress.json") is None:
        name = "leftover"
    label = _label(root / path / "manifest.json") if name == "result" and is_folder else ""
    return Entry(cast("Kind", name), path, size, key, label)


def _size(path: Path) -> int:
    """Total bytes of regular files below `path`; links count as zero."""
    total = 0
    with contextlib.suppress(OSError):
        if stat.S_ISREG((facts := path.lstat()).st_mode):
            return facts.st_size
        if stat.S_ISDIR(facts.st_mode):
            for folder, _, names in os.walk(path):
                for name in names:
                    with contextlib.suppress(OSError):
                        facts = os.lstat(os.path.join(folder, name))
                        total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def _label(manifest: Path) -> str:
    """The job's label when the result was made; other runs may use another."""
    try:
        job = read_sealed(manifest)["job"]
        return f"{Job.from_json(job).label} ({job['uses']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
