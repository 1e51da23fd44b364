"""The store: immutable results by key, published atomically, and the saved progress of unfinished stages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressit.files import sync
from compressit.lock import held

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
        """Logged curves, at most 200 points each."""
        return dict(self.manifest.get("curves", {}))

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
        manifest_file = folder / "manifest.json"
        if not manifest_file.exists():
            return None
        try:
            manifest = json.loads(manifest_file.read_bytes())
            if manifest.pop("sha256") != _text_digest(manifest):
                raise ValueError("its manifest has changed")
            if manifest["format"] != FORMAT or manifest["key"] != key:
                raise ValueError("its manifest belongs to something else")
            for name, digest in manifest["files"].items():
                if _sha256(folder / name) != digest:
                    raise ValueError(f"{name} has changed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            for path in temporary.iterdir():
                sync(path)
            manifest = {"format": FORMAT, "key": key, "files": files, "created": time.time(), **facts}
            manifest = json.loads(json.dumps(manifest))  # as it will be read: text keys, lists
            manifest["sha256"] = _text_digest(manifest)
            _write_synced(temporary / "manifest.json", json.dumps(manifest, sort_keys=True, indent=1))
            sync(temporary)
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
        write(folder / name)
        sync(folder / name)
        text = json.dumps({**facts, "tensors": name, "sha256": _sha256(folder / name)})
        _write_synced(folder / "progress.tmp", text)
        os.replace(folder / "progress.tmp", folder / "progress.json")
        sync(folder)
        for old in folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def load_progress(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The file with the saved tensors and the facts; None (with a warning where it is damaged)."""
        folder = self._progress_folder(key)
        try:
            facts = json.loads((folder / "progress.json").read_bytes())
            tensors = folder / facts["tensors"]
            if _sha256(tensors) != facts["sha256"]:
                raise ValueError("its tensors have changed")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write_synced(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync(path)
