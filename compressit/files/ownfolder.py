"""A run folder on disk: only a run's own files, one writer at a time, and no writing outside of it.

The folder may come from an untrusted repository. Files are replaced, never opened for writing, and links inside it are
not followed. Anything else in a file's place is reported and left alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from compressit.errors import CompressitError
from compressit.files.lock import held
from compressit.files.reading import digest, kind
from compressit.files.sealed import read_sealed, write_sealed
from compressit.files.writing import TEMPORARY, clear, replace

FORMAT = 2
RUN, LOCK = "run.json", ".lock"
MADE = ("checkpoints", "arrays", "pictures", "exports", "figures")
TOP = frozenset({RUN, LOCK, "results.json", "results.csv", "report.html", "logs", *MADE})
ANOTHER = "choose another folder with --out"
LOCK_PATIENCE = 10.0  # seconds a second writer waits for the first


class OwnFolder:
    """Files of a run folder, by relative name: `checkpoints/real/seed0/train.safetensors`."""

    def __init__(self, path: Path) -> None:
        self.path = path  # as the user gave it
        self.root = Path(os.path.realpath(path))

    def require_ours(self) -> None:
        """Raises CompressitError if the folder has files that no run made, or cannot be listed."""
        try:
            names = {name for name in os.listdir(self.root) if not TEMPORARY.fullmatch(name)}
        except FileNotFoundError:
            return
        except OSError as error:
            message = f"{self.path}: the run folder cannot be written to: {error.strerror}"
            raise CompressitError(message, ANOTHER) from error
        is_damaged = RUN in names and names <= TOP  # a run's folder with a damaged run.json
        if self.facts() is None and not (names <= {LOCK, "logs"} or "rows" in self._results() or is_damaged):
            strange = ", ".join((sorted(names - TOP) or sorted(names))[:3])
            raise CompressitError(
                f"{self.path} is not empty and not a run folder: it contains {strange}", ANOTHER
            )

    def facts(self) -> dict[str, Any] | None:
        """The content of run.json: `state`, `content`, `files` (name -> sha256) …; None if missing or damaged."""
        try:
            facts = self._sealed(RUN)
            fits = facts["format"] == FORMAT and all(type(known) is str for known in facts["files"].values())
        except (LookupError, TypeError, AttributeError):
            return None
        return facts if fits else None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Replaces run.json. Raises OSError and CompressitError, like all methods that write."""
        write_sealed(self.place(RUN), {"format": FORMAT, **facts})

    def recipe(self) -> str | None:
        """The name of the recipe whose results the folder holds, if known."""
        named = (self.facts() or self._results()).get("recipe")
        return named if isinstance(named, str) else None

    def find(self, name: str) -> Path | None:
        """The file of this name, if it is a regular file and its path contains no links."""
        with contextlib.suppress(CompressitError, OSError):
            path = self.place(name, make=False)
            return path if kind(path) == "file" else None
        return None

    def place(self, name: str, make: bool = True) -> Path:
        """The path for the file of this name; creates its folders unless `make` is False.

        Raises CompressitError if the path contains anything but regular folders and a regular file.
        """
        parts = PurePosixPath(name).parts
        if not parts or "\0" in name:
            raise CompressitError(f"{name!r} is not a valid file name")
        if ".." in parts or PurePosixPath(name).is_absolute():
            raise CompressitError(f"{name} leads out of {self.path}")
        if os.path.realpath(self.root) != str(self.root):  # the original folder was replaced
            message = f"{self.path}, or a folder above it, has become a link since this run started"
            raise CompressitError(message, f"remove it, or {ANOTHER}")
        here = self.root
        for part, wanted in zip(parts, [*("folder" for _ in parts[1:]), "file"], strict=True):
            if make:
                here.mkdir(parents=here == self.root, exist_ok=True)
            here /= part
            found = kind(here)
            if found not in (None, wanted):
                raise CompressitError(
                    f"{self.path / here.relative_to(self.root)} is a {found}, but a run needs a {wanted} here; "
                    "it does not write outside its own folder",
                    f"remove it, or {ANOTHER}",
                )
        return here

    def write(self, name: str, content: bytes) -> None:
        """Atomically writes these bytes to the file."""
        replace(self.place(name), content)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """sha256 of each of these files that exists."""
        found = {name: file for name in sorted(names) if (file := self.find(name)) is not None}
        return {name: digest(file) for name, file in found.items()}

    def remove(self, name: str) -> None:
        """Removes a file and the folders left empty by that."""
        file = self.find(name)
        if file is not None:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                for part in PurePosixPath(name).parents[:-1]:
                    (self.root / part).rmdir()

    def names(self, folder: str) -> set[str]:
        """The names of everything in a subfolder; empty if there is no such folder."""
        with contextlib.suppress(OSError):
            if kind(self.root / folder) == "folder":
                return {f"{folder}/{name}" for name in os.listdir(self.root / folder)}
        return set()

    def fresh(self, name: str) -> IO[bytes]:
        """Creates a new, empty file of this name. An existing one is unlinked, not overwritten."""
        file = self.place(name)
        file.unlink(missing_ok=True)
        return file.open("xb")

    def sweep(self) -> None:
        """Removes temporary files of killed writers. Call it only while holding the lock."""
        for folder, folders, files in os.walk(self.root):  # does not follow links
            if folder == str(self.root):
                folders[:] = [f for f in folders if f in MADE or TEMPORARY.fullmatch(f)]
            for name in filter(TEMPORARY.fullmatch, [*folders, *files]):
                clear(Path(folder, name))

    @contextlib.contextmanager
    def writing(self, say: Callable[[str], None]) -> Generator[None]:
        """Holds the lock for writing. Raises CompressitError if another process keeps it, OSError if locking fails."""
        lock = self.place(LOCK)
        if lock.exists() and lock.stat().st_nlink > 1:  # locking would overwrite the other file
            raise CompressitError(f"{self.path}/{LOCK} is a hard link to another file", "remove it")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(lock, say, LOCK_PATIENCE))
            except TimeoutError as error:
                raise CompressitError(
                    f"{self.path}: another run is writing to it: {error}", ANOTHER
                ) from error
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # the folder has become read-only
                    stack.close()

    def _results(self) -> dict[str, Any]:
        return self._sealed("results.json")

    def _sealed(self, name: str) -> dict[str, Any]:
        """The content of a sealed file; empty if it is missing or damaged."""
        try:
            return read_sealed(self.find(name) or Path())
        except (OSError, ValueError):
            return {}
