"""A run folder on the disk: what in it is a run's own, one writer at a time, and no way out of it.

Such a folder may come with somebody's repository. Its files are replaced, never opened for writing, and no link
below it is followed: what stands in a file's way is named and stays.
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
TOP = frozenset({RUN, LOCK, "results.json", "results.csv", "report.html", "checkpoints", "figures", "logs"})
ANOTHER = "give another folder with --out"
LOCK_PATIENCE = 10.0  # seconds that a second writer waits for the first


class OwnFolder:
    """Files of a run folder, by their names relative to it: `checkpoints/real/seed0/train.safetensors`."""

    def __init__(self, path: Path) -> None:
        self.path = path  # as its user calls it
        self.root = Path(os.path.realpath(path))

    def require_ours(self) -> None:
        """Raises CompressitError for a folder with files that no run made, and for one that cannot be looked at."""
        try:
            names = {name for name in os.listdir(self.root) if not TEMPORARY.fullmatch(name)}
        except FileNotFoundError:
            return
        except OSError as error:
            message = f"{self.path}: the run folder cannot be written: {error.strerror}"
            raise CompressitError(message, ANOTHER) from error
        is_damaged = RUN in names and names <= TOP  # a run's, whose list is
        if self.facts() is None and not (names <= {LOCK, "logs"} or "rows" in self._results() or is_damaged):
            strange = ", ".join((sorted(names - TOP) or sorted(names))[:3])
            raise CompressitError(
                f"{self.path} is not empty and no folder of a run: it holds {strange}", ANOTHER
            )

    def facts(self) -> dict[str, Any] | None:
        """What run.json says: `state`, `content`, `files` (name -> sha256) …; None where it is missing or damaged."""
        try:
            facts = self._sealed(RUN)
            fits = facts["format"] == FORMAT and all(type(known) is str for known in facts["files"].values())
        except (LookupError, TypeError, AttributeError):
            return None
        return facts if fits else None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Replaces run.json. Raises OSError and CompressitError, as everything that writes."""
        write_sealed(self.place(RUN), {"format": FORMAT, **facts})

    def recipe(self) -> str | None:
        """The name of the recipe whose results it holds, as far as it says so."""
        named = (self.facts() or self._results()).get("recipe")
        return named if isinstance(named, str) else None

    def find(self, name: str) -> Path | None:
        """The file of that name, if it is a plain one and only plain folders lead to it."""
        with contextlib.suppress(CompressitError, OSError):
            path = self.place(name, make=False)
            return path if kind(path) == "file" else None
        return None

    def place(self, name: str, make: bool = True) -> Path:
        """Where the file of that name goes; the folders on its way are made, unless told otherwise.

        Raises CompressitError where something else than a plain file or folder stands there.
        """
        parts = PurePosixPath(name).parts
        if not parts or "\0" in name:
            raise CompressitError(f"{name!r} is no name of a file")
        if ".." in parts or PurePosixPath(name).is_absolute():
            raise CompressitError(f"{name} leads out of {self.path}")
        if os.path.realpath(self.root) != str(self.root):  # of what was opened, nothing is left
            message = f"{self.path} has become a link, or lies behind one, since this run began"
            raise CompressitError(message, f"remove it, or {ANOTHER}")
        here = self.root
        for part, wanted in zip(parts, [*("folder" for _ in parts[1:]), "file"], strict=True):
            if make:
                here.mkdir(parents=here == self.root, exist_ok=True)
            here /= part
            found = kind(here)
            if found not in (None, wanted):
                raise CompressitError(
                    f"{self.path / here.relative_to(self.root)} is a {found}, where a run keeps a {wanted}: "
                    "it writes only into its own folder",
                    f"remove it, or {ANOTHER}",
                )
        return here

    def write(self, name: str, content: bytes) -> None:
        """Puts these bytes there."""
        replace(self.place(name), content)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """sha256 of those of these files that are there."""
        found = {name: file for name in sorted(names) if (file := self.find(name)) is not None}
        return {name: digest(file) for name, file in found.items()}

    def remove(self, name: str) -> None:
        """Removes a file, and the folders that it leaves empty."""
        file = self.find(name)
        if file is not None:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                for part in PurePosixPath(name).parents[:-1]:
                    (self.root / part).rmdir()

    def names(self, folder: str) -> set[str]:
        """The names of what lies in one of its folders; none where there is no such folder."""
        with contextlib.suppress(OSError):
            if kind(self.root / folder) == "folder":
                return {f"{folder}/{name}" for name in os.listdir(self.root / folder)}
        return set()

    def fresh(self, name: str) -> IO[bytes]:
        """A new, empty file of that name: one that is there already is left to whoever else has it."""
        file = self.place(name)
        file.unlink(missing_ok=True)
        return file.open("xb")

    def sweep(self) -> None:
        """Removes the temporary files of writers that were killed. For the one who holds the lock."""
        for folder, folders, files in os.walk(self.root):  # follows no link
            if folder == str(self.root):
                folders[:] = [f for f in folders if f in ("checkpoints", "figures") or TEMPORARY.fullmatch(f)]
            for name in filter(TEMPORARY.fullmatch, [*folders, *files]):
                clear(Path(folder, name))

    @contextlib.contextmanager
    def writing(self, say: Callable[[str], None]) -> Generator[None]:
        """Holds the right to write. Raises CompressitError while another process keeps it, OSError where it is not to
        be had at all."""
        lock = self.place(LOCK)
        if lock.exists() and lock.stat().st_nlink > 1:  # whoever locks it writes its name into it
            raise CompressitError(f"{self.path}/{LOCK} is a second name of another file", "remove it")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(lock, say, LOCK_PATIENCE))
            except TimeoutError as error:
                raise CompressitError(f"{self.path}: another run writes there: {error}", ANOTHER) from error
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # the folder has become read-only meanwhile
                    stack.close()

    def _results(self) -> dict[str, Any]:
        return self._sealed("results.json")

    def _sealed(self, name: str) -> dict[str, Any]:
        """What a file of ours says; nothing where it is missing or damaged."""
        try:
            return read_sealed(self.find(name) or Path())
        except (OSError, ValueError):
            return {}
