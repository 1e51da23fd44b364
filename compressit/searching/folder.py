"""A search's folder: `search.json`, what was tried so far; `winner.yaml`, and its run in `winner/`; `logs/`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from compressit.errors import CompressitError
from compressit.files.ownfolder import ANOTHER, LOCK, OwnFolder
from compressit.files.sealed import read_sealed, write_sealed
from compressit.files.writing import TEMPORARY
from compressit.searching.trials import Tried
from compressit.store.objects import Artifact

FORMAT = 1
FILE, WINNER, RUN = "search.json", "winner.yaml", "winner"


class SearchFolder:
    """What a search keeps, so that it can be continued. A session's target: it writes logs, but draws no report."""

    def __init__(self, path: Path) -> None:
        """Raises CompressitError if the folder has files that no search made."""
        self.path = path
        self._own = OwnFolder(path)
        with contextlib.suppress(FileNotFoundError):
            names = {name for name in os.listdir(path) if not TEMPORARY.fullmatch(name)}
            if FILE not in names and names - {LOCK, "logs"}:
                strange = ", ".join(sorted(names)[:3])
                raise CompressitError(
                    f"{path} is not empty and not the folder of a search: it contains {strange}", ANOTHER
                )

    @contextlib.contextmanager
    def writing(self, say: Callable[[str], None]) -> Generator[None]:
        """A block in which only this search writes there. Raises CompressitError if another one does."""
        try:
            with self._own.writing(say):
                yield
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(str(self._own.root)):
                raise
            why = error.strerror or error
            raise CompressitError(f"{self.path}: the folder cannot be written to: {why}", ANOTHER) from error

    def read(self, content: str) -> Tried:
        """The trials so far; none if the folder is new. Raises CompressitError if they are another search's, whose
        `content` differs, or the file is damaged."""
        file = self._own.find(FILE)
        if file is None:
            return Tried()
        try:
            facts = read_sealed(file)
            if facts["format"] == FORMAT and facts["content"] == content:
                return TypeAdapter(Tried).validate_json(json.dumps(facts["tried"]), strict=True)
        except (OSError, ValueError, LookupError, ValidationError) as error:
            raise CompressitError(
                f"{file}: not what a search wrote: {error}", f"remove it, or {ANOTHER}"
            ) from error
        raise CompressitError(
            f"{self.path} holds a search with another recipe, goal or seed, or of another version",
            f"{ANOTHER}, or remove this folder",
        )

    def write(self, content: str, tried: Tried) -> None:
        """Keeps the trials."""
        write_sealed(self._own.place(FILE), {"format": FORMAT, "content": content, "tried": asdict(tried)})

    def write_winner(self, text: str) -> Path:
        """Writes the recipe of the winner."""
        self._own.write(WINNER, text.encode())
        return self.path / WINNER

    def remove_winner(self) -> None:
        """Removes the recipe of an earlier winner."""
        self._own.remove(WINNER)

    # The session's target

    def refresh(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> None:
        """Nothing is drawn while a search goes on."""

    def finish(self, artifacts: Mapping[str, Artifact], failures: Sequence[str], complete: bool) -> bool:
        """What was found is written trial by trial."""
        return True

    def write_log(self, name: str, text: str) -> Path:
        """Writes a text file of this name to `logs/`. Raises OSError and CompressitError."""
        self._own.write(f"logs/{name}", text.encode("utf-8", "backslashreplace"))
        return self.path / "logs" / name
