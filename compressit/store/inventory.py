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
from typing import Any, Literal

from compressit.contract.job import Job
from compressit.files.lock import held, holder, is_held
from compressit.files.sealed import read_sealed
from compressit.store.objects import PROBE, Store, Uses

Kind = Literal["result", "progress", "lock", "leftover", "run", "foreign"]
MOMENT = 3600.0  # seconds that a file lives at most before it takes another's place

_KEY = re.compile(r"[0-9a-f]{64}")
_LOCK = re.compile(r"([0-9a-f]{64})\.lock")
_HALF = re.compile(r"([0-9a-f]{64}|damaged)\.[0-9a-f]{32}")
_NOTE = re.compile(r"[0-9a-f]{64}\.json")
_TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{12}}\.tmp|{PROBE.pattern}")
_PLACES = ("objects", "progress", "locks", "tmp", "runs")


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
    entries = [*_top(root)]
    for place in _PLACES:
        if _is_folder(root / place):
            entries += _PLACE[place](root)
    uses: list[Uses] = []
    unread: dict[str, str] = {}
    for entry in entries:
        if entry.kind == "run":
            try:
                uses.append(Uses.read(root / entry.name))
            except (OSError, ValueError, LookupError, TypeError) as error:
                unread[entry.name] = str(error)
    there = [use for use in uses if _is_folder(Path(use.folder))]
    return Inventory(root, entries, there, [use for use in uses if use not in there], unread)


def waste(store: Store, found: Inventory) -> Iterator[Waste]:
    """What nobody needs: what no known run folder uses, what killed processes left, and what is damaged.

    What another process works at now is left out. While a note of a run folder is damaged, nothing counts as unused.
    """
    used, certain = found.used, not found.unread
    busy = {entry.key for entry in found.of("lock") if is_held(found.root / entry.name)}
    published = {entry.key for entry in found.of("result")}
    gone = {use.file for use in found.gone}
    for entry in found.entries:
        unused = certain and entry.key not in used
        why = ""
        if entry.key in busy and entry.key is not None:
            continue
        if entry.kind == "result":
            why = "no run folder uses it" if unused else _damage(store, entry)
        elif entry.kind == "progress":
            finished = entry.key in published and store.find(str(entry.key)) is not None
            why = "its stage is finished" if finished else "no run folder uses it" if unused else ""
            why = why or _damage(store, entry)
        elif entry.kind == "lock":
            why = "nobody holds it"
        elif entry.kind == "leftover":
            why = "a process that was killed left it"
        elif entry.kind == "run" and entry.name in gone:
            why = "its run folder is gone"
        if why:
            yield Waste(entry, why)


def damaged(store: Store, found: Inventory) -> Iterator[Waste]:
    """What cannot be read as it was written: every result and saved state is read, to its last byte."""
    for entry in found.of("result", "progress"):
        if why := _damage(store, entry):
            yield Waste(entry, why)
    for entry in found.of("run"):
        if entry.name in found.unread:
            yield Waste(entry, found.unread[entry.name])


def remove(root: Path, entry: Entry) -> str | None:
    """Takes it away, unless another process works at it; returns who does, or what went wrong.

    A link is removed, never what it leads to.
    """
    lock = root / "locks" / f"{entry.key}.lock"
    if lock.parent.is_symlink():
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
    key = str(entry.key)
    reason = store.damage(key) if entry.kind == "result" else store.progress_damage(key)
    return reason or ""


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


def _top(root: Path) -> Iterator[Entry]:
    for name in _names(root):
        path = root / name
        if name in _PLACES:
            if not _is_folder(path):
                yield Entry("foreign", name, 0, label="no folder, where the store keeps one")
        elif _TEMPORARY.fullmatch(name):
            yield from _if_old(root, path)
        elif name != "history.json":
            yield _foreign(root, path)


def _objects(root: Path) -> Iterator[Entry]:
    for short in _names(root / "objects"):
        folder = root / "objects" / short
        if not re.fullmatch("[0-9a-f]{2}", short) or not _is_folder(folder):
            yield _foreign(root, folder)
            continue
        for name in _names(folder):
            if _KEY.fullmatch(name) and name.startswith(short):
                label = _label(folder / name / "manifest.json") if _is_folder(folder / name) else ""
                yield _entry("result", root, folder / name, name, label)
            else:
                yield _foreign(root, folder / name)


def _progress(root: Path) -> Iterator[Entry]:
    for name in _names(root / "progress"):
        path = root / "progress" / name
        if not _KEY.fullmatch(name):
            yield _foreign(root, path)
        elif _is_folder(path) and not os.path.lexists(path / "progress.json"):
            yield _entry("leftover", root, path, name)
        else:
            yield _entry("progress", root, path, name)


def _locks(root: Path) -> Iterator[Entry]:
    for name in _names(root / "locks"):
        path = root / "locks" / name
        found = _LOCK.fullmatch(name)
        yield _entry("lock", root, path, found[1]) if found and path.is_file() else _foreign(root, path)


def _half(root: Path) -> Iterator[Entry]:
    for name in _names(root / "tmp"):
        path = root / "tmp" / name
        found = _HALF.fullmatch(name)
        key = found[1] if found and found[1] != "damaged" else None
        yield _entry("leftover", root, path, key) if found else _foreign(root, path)


def _runs(root: Path) -> Iterator[Entry]:
    for name in _names(root / "runs"):
        path = root / "runs" / name
        if _NOTE.fullmatch(name):
            yield _entry("run", root, path)
        elif _TEMPORARY.fullmatch(name):
            yield from _if_old(root, path)
        else:
            yield _foreign(root, path)


_PLACE = {"objects": _objects, "progress": _progress, "locks": _locks, "tmp": _half, "runs": _runs}


def _entry(kind: Kind, root: Path, path: Path, key: str | None = None, label: str = "") -> Entry:
    return Entry(kind, path.relative_to(root).as_posix(), _size(path), key, label)


def _foreign(root: Path, path: Path) -> Entry:
    return _entry("foreign", root, path, label="nothing that a store makes")


def _if_old(root: Path, path: Path) -> Iterator[Entry]:
    with contextlib.suppress(FileNotFoundError):  # it has taken its place
        if time.time() - path.lstat().st_mtime > MOMENT:
            yield _entry("leftover", root, path)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:  # removed meanwhile
        return []


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


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
        job: dict[str, Any] = read_sealed(manifest)["job"]
        return f"{Job.from_json(job).label} ({job['uses']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
