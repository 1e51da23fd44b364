"""The store: immutable results by key, published atomically, and the saved progress of unfinished stages."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressit.files import digest, sync
from compressit.lock import held
from compressit.sealed import read_sealed, write_sealed

FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """A published result: a folder that never changes, and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]  # task, notes, metrics, seconds, host, created

    @property
    def model_file(self) -> Path:
        """The checkpoint, for tasks that make a model."""
        return self.folder / "model.safetensors"

    @property
    def notes(self) -> dict[str, Any]:
        """Facts the stage noted."""
        return dict(self.manifest.get("notes", {}))

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers an evaluation measured."""
        return dict(self.manifest.get("metrics", {}))

    @property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Logged curves, at most 200 points each; NaN where a value was not finite."""
        return {
            name: [(step, math.nan if value is None else value) for step, value in points]
            for name, points in self.manifest.get("curves", {}).items()
        }

    @property
    def seconds(self) -> float:
        """How long the task took, of all its sessions together."""
        return float(self.manifest["seconds"])


class Store:
    """`<root>/objects/ab/<key>/`, `<root>/progress/<key>/`, `<root>/locks/`, `<root>/tmp/`."""

    def __init__(self, root: Path, warn: Callable[[str], None] = lambda text: None) -> None:
        self.root = root
        self._warn = warn

    def find(self, key: str) -> Artifact | None:
        """The artifact, every file of it checked by size and digest; None (with a warning) where damaged."""
        folder = self._folder(key)
        try:
            manifest = read_sealed(folder / "manifest.json")
            _check_manifest(manifest, key)
            for name, known in manifest["files"].items():
                if Path(name).name != name or digest(folder / name) != known:
                    raise ValueError(f"{name} has changed")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if os.path.lexists(folder / "manifest.json"):
                self._warn(f"damaged result {key[:12]} is made anew: {error}")
            return None
        return Artifact(folder, manifest)

    def publish(
        self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None] = lambda folder: None
    ) -> Artifact:
        """Writes files through `write(folder)`, then the manifest, then renames the folder into place.

        A result that somebody else published meanwhile stays; a damaged one is replaced.
        """
        temporary = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            write(temporary)
            files = {path.name: digest(path) for path in sorted(temporary.iterdir())}
            for path in temporary.iterdir():
                sync(path)
            manifest = {"format": FORMAT, "key": key, "files": files, "created": time.time(), **facts}
            write_sealed(temporary / "manifest.json", manifest)
            folder = self._folder(key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists() and self.find(key) is None:
                self._discard(folder)
            if not folder.exists():
                _rename_unless_there(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self._progress_folder(key), ignore_errors=True)
        artifact = self.find(key)
        if artifact is None:
            raise OSError(f"the result {key[:12]} could not be read back from {self.root}")
        return artifact

    @contextlib.contextmanager
    def lock(self, key: str, say: Callable[[str], None] = lambda text: None) -> Generator[None]:
        """Holds the right to make this result: another process with the same task waits, and says for whom.

        Removes what a process that was killed while it held the lock had half written.
        """
        with held(self._lock_file(key), say):
            for left in (self.root / "tmp").glob(f"{key}.*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def tidy(self, keys: Iterable[str]) -> None:
        """Removes what processes that were killed left of these results: locks, half-written folders, and the
        saved progress of what is published. What another process is making now stays."""
        half = list((self.root / "tmp").glob("*"))
        for key in keys:
            lock, progress = self._lock_file(key), self._progress_folder(key)
            left = [path for path in half if path.name.startswith(f"{key}.")]
            if progress.exists() and self.find(key) is not None:
                left.append(progress)
            if left or lock.exists():
                with contextlib.suppress(OSError), held(lock, patience=0):  # held by another; read-only
                    for path in left:
                        shutil.rmtree(path, ignore_errors=True)

    def _lock_file(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    def save_progress(self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Replaces the saved state of an unfinished stage atomically; `write(file)` writes its tensors."""
        folder = self._progress_folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"state-{uuid.uuid4().hex}.safetensors"
        try:
            write(folder / name)
            sync(folder / name)
            told = {**facts, "key": key, "tensors": name, "tensors_sha256": digest(folder / name)}
            write_sealed(folder / "progress.json", told)
        except BaseException:
            (folder / name).unlink(missing_ok=True)  # half of it would only fill the disk
            raise
        for old in (*folder.glob("state-*.safetensors"), *folder.glob(".progress.json.*.tmp")):
            if old.name != name:
                old.unlink(missing_ok=True)

    def load_progress(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The file with the saved tensors and the facts; None (with a warning where it is damaged)."""
        folder = self._progress_folder(key)
        try:
            facts = read_sealed(folder / "progress.json")
            if facts["key"] != key:
                raise ValueError("it belongs to another stage")
            tensors = folder / Path(facts["tensors"]).name
            if digest(tensors) != facts["tensors_sha256"]:
                raise ValueError("its tensors have changed")
        except (OSError, ValueError, LookupError, TypeError) as error:
            if not self.has_progress(key):
                return None
            self._warn(f"the saved progress of {key[:12]} is damaged and not used: {error}")
            return None
        return tensors, facts

    def has_progress(self, key: str) -> bool:
        """Whether an unfinished stage left a state to go on from."""
        return (self._progress_folder(key) / "progress.json").exists()

    def _discard(self, folder: Path) -> None:
        """Out of the way first: a folder that is half removed must not be found."""
        aside = self.root / "tmp" / f"damaged.{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):  # another writer did it
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.root / "objects" / key[:2] / key

    def _progress_folder(self, key: str) -> Path:
        return self.root / "progress" / key


def _rename_unless_there(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if not (target / "manifest.json").exists():  # else the other writer won
            raise
    else:
        sync(target.parent)


def _check_manifest(manifest: Mapping[str, Any], key: str) -> None:
    """Raises ValueError, LookupError, TypeError or AttributeError unless everything that is read of it later is there
    and of its type."""
    if manifest["format"] != FORMAT or manifest["key"] != key:
        raise ValueError("its manifest belongs to something else")
    notes, metrics, curves = (manifest.get(name, {}) for name in ("notes", "metrics", "curves"))
    numbers = [*metrics.values(), manifest["seconds"]]
    numbers += [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points if value is not None]
    if not isinstance(notes, dict) or not all(type(number) in (int, float) for number in [*numbers, *values]):
        raise ValueError("its manifest holds something else than numbers")
