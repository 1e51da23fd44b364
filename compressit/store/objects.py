"""The store: immutable results by key, published atomically, and saved progress of unfinished stages."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressit.files.lock import held
from compressit.files.reading import digest, kind
from compressit.files.sealed import read_sealed, write_sealed
from compressit.files.writing import clear, sync

FORMAT = 1
ARRAYS = "arrays.safetensors"
_WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError)  # raised when reading damaged files


@dataclass(frozen=True)
class Artifact:
    """A published result: an immutable folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]  # job, notes, metrics, curves, arrays, pictures, seconds, host, created

    @property
    def model_file(self) -> Path:
        """The checkpoint, if the job makes a model."""
        return self.folder / "model.safetensors"

    @property
    def notes(self) -> dict[str, Any]:
        """The stage's notes."""
        return dict(self.manifest.get("notes", {}))

    @property
    def metrics(self) -> dict[str, float]:
        """The evaluation's metrics."""
        return dict(self.manifest.get("metrics", {}))

    @property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Logged curves, at most 200 points each. Values that were not finite are NaN."""
        return {
            name: [(step, math.nan if value is None else value) for step, value in points]
            for name, points in self.manifest.get("curves", {}).items()
        }

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays in the file `ARRAYS`."""
        return list(self.manifest.get("arrays", {}))

    @property
    def pictures(self) -> list[str]:
        """The names of the pictures, each in a file `NAME.png`."""
        return list(self.manifest.get("pictures", ()))

    @property
    def kept(self) -> list[str]:
        """The names of the files for other programs, each in a file `kept_file(NAME)`."""
        return list(self.manifest.get("kept", ()))

    @property
    def recorded(self) -> set[tuple[str, str]]:
        """What was recorded besides numbers: ("curve", its name), and so for "array", "picture" and "file"."""
        given = {"curve": self.curves, "array": self.arrays, "picture": self.pictures, "file": self.kept}
        return {(kind, name) for kind, names in given.items() for name in names}

    @property
    def seconds(self) -> float:
        """How long the job took, over all sessions."""
        return float(self.manifest["seconds"])


@dataclass(frozen=True)
class Uses:
    """A note in the store: the real path of a run folder, and the keys of the results it uses."""

    folder: str
    keys: frozenset[str]

    @property
    def file(self) -> str:
        """Its path relative to the store, named after the folder path's digest: one note per folder."""
        return f"runs/{hashlib.sha256(os.fsencode(self.folder)).hexdigest()}.json"

    @staticmethod
    def read(path: Path) -> Uses:
        """Reads a note. Raises OSError, ValueError, LookupError or TypeError if `Store.note` did not write it."""
        facts = read_sealed(path)
        found = Uses(os.fsdecode(bytes.fromhex(facts["folder"])), frozenset(facts["keys"]))
        if Path(found.file).name != path.name:
            raise ValueError("it belongs to another run folder")
        return found


class Store:
    """`<root>/objects/ab/<key>/`, `<root>/progress/<key>/`, `<root>/locks/`, `<root>/tmp/`, `<root>/runs/`."""

    def __init__(self, root: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self.root = root
        self._warn = warn

    def require_writable(self) -> None:
        """Tests early whether the store is writable, by creating the folder and a temporary file. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root) as probe:
            probe.write(b"x")

    def find(self, key: str) -> Artifact | None:
        """The artifact, after checking all its files by size and digest; None (with a warning) if damaged."""
        try:
            return self._read(key)
        except _WRONG as error:
            if os.path.lexists(self._folder(key)):
                self._warn(f"the result {key[:12]} is damaged and will be made again: {error}")
            return None

    def load_progress(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The file with the saved tensors, and the facts; None (with a warning) if damaged."""
        try:
            return self._read_progress(key)
        except _WRONG as error:
            if self.has_progress(key):
                self._warn(f"the saved progress of {key[:12]} is damaged and will not be used: {error}")
            return None

    def damage(self, what: Literal["result", "progress"], key: str) -> str:
        """What is wrong with this entry, in words, or "" if nothing; for display beside its name."""
        try:
            self._read(key) if what == "result" else self._read_progress(key)
        except _WRONG as error:
            if isinstance(error, OSError) and error.filename:
                return f"{Path(os.fsdecode(error.filename)).name}: {error.strerror}"
            return f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
        return ""

    def _read(self, key: str) -> Artifact:
        """Raises one of `_WRONG` if the result is missing or damaged."""
        folder = self._folder(key)
        manifest = read_sealed(folder / "manifest.json")
        _check_manifest(manifest, key)
        for name, known in manifest["files"].items():
            if Path(name).name != name or digest(folder / name) != known:
                raise ValueError(f"{name} was changed")
        return Artifact(folder, manifest)

    def _read_progress(self, key: str) -> tuple[Path, dict[str, Any]]:
        """Raises one of `_WRONG` if the progress is missing or damaged."""
        folder = self._progress_folder(key)
        facts = read_sealed(folder / "progress.json")
        if facts["key"] != key:
            raise ValueError("it belongs to another stage")
        tensors = folder / Path(facts["tensors"]).name
        if digest(tensors) != facts["tensors_sha256"]:
            raise ValueError("its tensors were changed")
        return tensors, facts

    def note(self, folder: Path, keys: Iterable[str]) -> None:
        """Notes that a run folder uses these results, replacing the folder's earlier note.

        `compressit store gc` removes results that no folder on this machine uses. If the store is read-only, no note is
        written.
        """
        uses = Uses(os.path.realpath(folder), frozenset(keys))
        file = self.root / uses.file
        with contextlib.suppress(*_WRONG):
            if Uses.read(file) == uses:
                return
        with contextlib.suppress(OSError):
            self._made("runs")
            write_sealed(file, {"folder": os.fsencode(uses.folder).hex(), "keys": sorted(uses.keys)})

    def publish(
        self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None] = lambda folder: None
    ) -> Artifact:
        """Writes files through `write(folder)`, then the manifest, then renames the folder into place.

        Keeps a result that another process published in the meantime; replaces a damaged one.
        """
        temporary = self._made("tmp") / f"{key}.{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            write(temporary)
            files = {path.name: digest(path) for path in sorted(temporary.iterdir())}
            for path in temporary.iterdir():
                sync(path)
            manifest = {"format": FORMAT, "key": key, "files": files, "created": time.time(), **facts}
            write_sealed(temporary / "manifest.json", manifest)
            folder = self._folder(key)
            self._made("objects", key[:2])
            if os.path.lexists(folder) and self.find(key) is None:
                self._discard(folder)
            if not folder.exists():
                try:
                    os.rename(temporary, folder)
                except OSError:
                    if not (folder / "manifest.json").exists():  # otherwise another writer was first
                        raise
                else:
                    sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._clear(self._progress_folder(key))
        artifact = self.find(key)
        if artifact is None:
            raise OSError(f"the result {key[:12]} cannot be read from {self.root} after writing")
        return artifact

    @contextlib.contextmanager
    def lock(
        self, key: str, say: Callable[[str], None] = lambda text: None, patience: float = math.inf
    ) -> Generator[None]:
        """Holds the lock for making this result. If another process holds it, waits and tells `say` which one.

        Raises TimeoutError, naming the holder, after `patience` seconds. Removes what a killed holder left half
        written.
        """
        self._made("locks")
        with held(self._lock_file(key), say, patience):
            for left in self.root.glob(f"tmp/{key}.*"):
                self._clear(left)
            yield

    def tidy(self, keys: Iterable[str]) -> None:
        """Removes what killed processes left of these results: locks, half-written folders, and saved progress of
        published results. Skips what another process is making now."""
        half = [*self.root.glob("tmp/*")]
        for key in keys:
            lock, progress = self._lock_file(key), self._progress_folder(key)
            left = [path for path in half if path.name.startswith(f"{key}.")]
            if os.path.lexists(progress) and self.find(key) is not None:
                left.append(progress)
            if (left or os.path.lexists(lock)) and kind(lock.parent) != "link":
                with contextlib.suppress(OSError), held(lock, patience=0):  # held by another, or read-only
                    for path in left:
                        self._clear(path)

    def _lock_file(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    def _clear(self, path: Path) -> None:
        """Removes the path if possible, unless its folder is a link, which may lead out of the store."""
        if kind(path.parent) == "folder":
            clear(path)

    def _made(self, *names: str) -> Path:
        """Creates and returns this folder. Raises OSError if anything but real folders is in its path."""
        path = self.root
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            path /= name
            if kind(path) == "link":
                raise OSError(errno.ELOOP, "a link, but the store needs a real folder here", str(path))
            try:
                path.mkdir(exist_ok=True)
            except FileExistsError as error:
                why = "not a folder, but the store needs one here"
                raise OSError(errno.ENOTDIR, why, str(path)) from error
        return path

    def save_progress(self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Atomically replaces the saved state of an unfinished stage; `write(file)` writes its tensors."""
        folder = self._progress_folder(key)
        self._made("progress")
        if kind(folder) != "folder":
            clear(folder)
        folder.mkdir(exist_ok=True)
        name = f"state-{uuid.uuid4().hex}.safetensors"
        try:
            write(folder / name)
            sync(folder / name)
            told = {**facts, "key": key, "tensors": name, "tensors_sha256": digest(folder / name)}
            write_sealed(folder / "progress.json", told)
        except BaseException:
            (folder / name).unlink(missing_ok=True)  # a partial file would waste disk space
            raise
        for old in (*folder.glob("state-*.safetensors"), *folder.glob(".progress.json.*.tmp")):
            if old.name != name:
                clear(old)

    def has_progress(self, key: str) -> bool:
        """Whether an unfinished stage left a state to resume from."""
        return (self._progress_folder(key) / "progress.json").exists()

    def _discard(self, folder: Path) -> None:
        """Removes a damaged result; renames it first, so that a partly removed folder is never found."""
        aside = self.root / "tmp" / f"damaged.{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):  # another writer has removed it
            folder.rename(aside)
        clear(aside)

    def _folder(self, key: str) -> Path:
        return self.root / "objects" / key[:2] / key

    def _progress_folder(self, key: str) -> Path:
        return self.root / "progress" / key


def kept_file(name: str) -> str:
    """What a file that an evaluator keeps is called in its result's folder: none of the store's own names."""
    return f"kept-{name}"


def _check_manifest(manifest: Mapping[str, Any], key: str) -> None:
    """Raises ValueError, LookupError, TypeError or AttributeError if a field that is read later is missing or has the
    wrong type."""
    if manifest["format"] != FORMAT or manifest["key"] != key:
        raise ValueError("its manifest belongs to another result")
    notes, metrics, curves = (manifest.get(name, {}) for name in ("notes", "metrics", "curves"))
    numbers = [*metrics.values(), manifest["seconds"]]
    numbers += [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points if value is not None]
    files = {f"{name}.png" for name in manifest.get("pictures", ())} | (
        {ARRAYS} if manifest.get("arrays") else set()
    )
    files |= {kept_file(name) for name in manifest.get("kept", ())}
    if not files <= manifest["files"].keys():
        raise ValueError("its manifest lists a file that it does not have")
    if not isinstance(notes, dict) or not all(type(number) in (int, float) for number in [*numbers, *values]):
        raise ValueError("its manifest has a value that is not a number")
