"""What lies in a store, which run folders use it, what of it is damaged, and what nobody needs any more.

A store may lie where others write. What is looked at is never followed out of it: a link counts as itself, and what
has not the name of something that we make is named and stays.
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
MOMENT = 3600.0  # seconds that a file lives at most before it takes another's place

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
"""The names of what a store makes; the last group that matches is called like its kind and holds its key."""


@dataclass(frozen=True)
class Entry:
    """One thing in the store."""

    kind: Kind
    name: str  # its path below the store, with slashes
    bytes: int
    key: str | None = None  # of the job it belongs to
    label: str = ""  # of the job, as far as it is known; what is wrong with a foreign thing


@dataclass(frozen=True)
class Inventory:
    """A store as it was looked at."""

    root: Path
    entries: Sequence[Entry]
    uses: Sequence[Uses]  # of run folders that are there
    gone: Sequence[Uses]  # of run folders that are not
    unread: Mapping[str, str]  # notes of run folders that are damaged -> why

    @property
    def used(self) -> set[str]:
        """The keys of what the known run folders are made from."""
        return {key for use in self.uses for key in use.keys}

    def of(self, *kinds: Kind) -> list[Entry]:
        """The entries of these kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]


@dataclass(frozen=True)
class Waste:
    """Something that may go, and why."""

    entry: Entry
    why: str


def look(root: Path) -> Inventory:
    """Looks at names and sizes; reads the manifests, no results. Raises OSError where the store cannot be read."""
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
    """What nobody needs: what no known run folder uses, what killed processes left, and what is damaged.

    What another process works at now is left out. While a note of a run folder is damaged, nothing counts as unused.
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
            why = "nobody holds it"
        elif entry.kind == "leftover":
            why = "a process that was killed left it"
        elif entry.name in gone:
            why = "its run folder is gone"
        if why:
            yield Waste(entry, why)


def damaged(store: Store, found: Inventory) -> Iterator[Waste]:
    """What cannot be read as it was written: every result and saved state is read, to its last byte."""
    for entry in found.of("result", "progress", "run"):
        why = found.unread.get(entry.name, "") if entry.kind == "run" else _damage(store, entry)
        if why:
            yield Waste(entry, why)


def remove(root: Path, entry: Entry) -> str | None:
    """Takes it away, unless another process works at it; returns who does, or what went wrong.

    A link is removed, never what it leads to.
    """
    lock = root / "locks" / f"{entry.key}.lock"
    if kind(lock.parent) == "link":
        return "the store's folder 'locks' is a link, so nobody can tell who works at it"
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
    """Goes down from the store through folders only, and removes the last of these names there."""
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
    except FileNotFoundError:  # removed meanwhile
        return
    for name in names:
        path = below + name
        is_folder = kind(root / path) == "folder"
        if _FOLDER.fullmatch(path) and is_folder:
            yield from _entries(root, f"{path}/")
        elif TEMPORARY.fullmatch(name) and below in ("", "runs/"):
            with contextlib.suppress(FileNotFoundError):  # it has taken its place
                if time.time() - (root / path).lstat().st_mtime > MOMENT:
                    yield Entry("leftover", path, _size(root / path))
        elif path != "history.json":
            yield _entry(root, path, is_folder)


def _entry(root: Path, path: str, is_folder: bool) -> Entry:
    found, size = _OURS.fullmatch(path), _size(root / path)
    if path in _PLACES:
        return Entry("foreign", path, size, label="no folder, where the store keeps one")
    if found is None or (found["lock"] and kind(root / path) != "file"):
        return Entry("foreign", path, size, label="nothing that a store makes")
    name = found.lastgroup or "leftover"
    key = None if name == "run" else found[name]
    if name == "progress" and is_folder and kind(root / path / "progress.json") is None:
        name = "leftover"
    label = _label(root / path / "manifest.json") if name == "result" and is_folder else ""
    return Entry(cast("Kind", name), path, size, key, label)


def _size(path: Path) -> int:
    """Bytes of the plain files below; a link counts as nothing."""
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
    """What the job was called when the result was made; other runs may call it otherwise."""
    try:
        job = read_sealed(manifest)["job"]
        return f"{Job.from_json(job).label} ({job['uses']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
