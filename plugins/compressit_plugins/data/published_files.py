"""Files of published data sets: from a folder, the cache, or where they are published. Always verified."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressit import CompressitError, opened

if TYPE_CHECKING:
    import tarfile

Contents = Mapping[str, bytes]  # file name -> the file, uncompressed where it is published as .gz

_SECONDS_PER_CONNECTION = 5.0


class Unavailable(Exception):  # noqa: N818 - the user sees it only if no source is left
    """This source does not have the files; the message says why."""


@dataclass(frozen=True)
class File:
    """A file as it is kept."""

    sha256: str
    size: int  # bytes


@dataclass(frozen=True)
class Published:
    """The files of a data set, and its sources in the order in which they are tried.

    A source takes the `Published` and a function that shows a line to the user. It gives verified contents, or raises
    Unavailable.
    """

    title: str  # MNIST
    plugin: str  # data.mnist
    files: Mapping[str, File]
    sources: tuple[Callable[[Published, Callable[[str], None]], Contents], ...]

    @property
    def fingerprint(self) -> str:
        """A digest of the files' digests, which do not depend on where the files come from."""
        return hashlib.sha256(" ".join(file.sha256 for file in self.files.values()).encode()).hexdigest()

    def contents(self, cache: Path, root: str | None, announce: Callable[[str], None]) -> Contents:
        """The files, with verified SHA-256: from the folder `root` if given, else from the folder `cache`, which is
        filled from the sources if necessary.

        If they are not available, raises CompressitError that names the files and where to put them.
        """
        from filelock import FileLock

        folder = Path(root) if root is not None else cache
        try:
            return self.read(folder)
        except Unavailable as problem:
            if root is not None:
                message = f"{self.plugin}, option root: {problem}"
                raise CompressitError(message, self._advice(folder)) from None
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".lock"):
                with contextlib.suppress(Unavailable):
                    return self.read(cache)  # another worker may have downloaded them meanwhile
                contents = self._first_available(announce, cache)
                for name, content in contents.items():
                    temporary = cache / f".{name}.tmp"  # safe, since we hold the lock
                    temporary.write_bytes(content)
                    temporary.replace(cache / name)
                return contents
        except OSError as error:
            message = f"{self.title}'s cache folder {cache} cannot be used: {error}"
            raise CompressitError(message, self._advice(cache)) from error

    def read(self, folder: Path) -> Contents:
        """The files of a folder, plain or `.gz`. Raises Unavailable if one is missing or has the wrong digest."""
        return self.verified(
            {name: _read(folder / name, file.size) for name, file in self.files.items()}, str(folder)
        )

    def verified(self, contents: Contents, source: str) -> Contents:
        """The contents, if their digests are right; else raises Unavailable."""
        for name, file in self.files.items():
            digest = hashlib.sha256(contents[name]).hexdigest()
            if digest != file.sha256:
                raise Unavailable(
                    f"{name} from {source} is not {self.title}'s file: its sha256 is {digest}, not {file.sha256}"
                )
        return contents

    def _first_available(self, announce: Callable[[str], None], cache: Path) -> Contents:
        problems: list[str] = []
        for source in self.sources:
            try:
                return source(self, announce)
            except Unavailable as problem:
                problems.append(str(problem))
        message = f"{self.title}'s files are not available: {'; '.join(problems)}"
        raise CompressitError(message, self._advice(cache))

    def _advice(self, folder: Path) -> str:
        forms = "" if all(name.endswith(".gz") for name in self.files) else " (plain or .gz)"
        return (
            f"put {', '.join(self.files)}{forms} into {folder}, "
            "or set the data option `root` to the folder that holds them"
        )


def fetched(published: Published, bases: Sequence[str], ending: str = "") -> Contents:
    """The files from the first of `bases`, URLs that end in a slash, that has them: as they are, or with the ending
    ".gz" and unpacked. Raises Unavailable.
    """
    from urllib.request import urlopen

    def one(name: str, size: int) -> bytes:
        problem: Exception | None = None
        for base in bases:
            try:
                with (
                    urlopen(f"{base}{name}{ending}", timeout=_SECONDS_PER_CONNECTION) as answer,
                    gzip.open(answer) if ending else answer as plain,
                ):
                    return plain.read(size + 1)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, try the next one
                problem = error
        raise Unavailable(f"{' and '.join(bases)} cannot be reached ({first_line(problem)})")

    contents = {name: one(name, file.size) for name, file in published.files.items()}
    return published.verified(contents, " or ".join(bases))


def unpacked(published: Published, archive: tarfile.TarFile, place: str) -> Contents:
    """The files at `place` in an archive, where `{name}` stands for their names; of an ending ".gz" unpacked.

    Writes nothing to disk. Raises Unavailable if one is missing or not a regular file.
    """
    contents: dict[str, bytes] = {}
    members = {member.name: member for member in archive if member.isfile()}  # no links
    for name, file in published.files.items():
        member = members.get(place.format(name=name))
        stream = archive.extractfile(member) if member else None
        if stream is None:
            raise Unavailable(f"the package has no file {name}")
        with gzip.open(stream) if place.endswith(".gz") else stream as plain:
            contents[name] = plain.read(file.size + 1)
    return contents


@contextlib.contextmanager
def asking(tool: str) -> Generator[None]:
    """A block that downloads with an outside tool: whatever goes wrong in it raises Unavailable."""
    import subprocess
    import tarfile

    try:
        yield
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace") if error.stderr else error
        raise Unavailable(f"{Path(error.cmd[0]).name} failed ({first_line(said)})") from error
    except (OSError, subprocess.TimeoutExpired, StopIteration, tarfile.TarError, EOFError) as error:
        raise Unavailable(f"{tool} downloaded nothing usable ({first_line(error)})") from error


def first_line(error: object) -> str:
    """Of a message, for one line of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _read(path: Path, size: int) -> bytes:
    """Reads at most `size` + 1 bytes: a larger file is not the published one, and may be a zip bomb."""
    file = path if path.exists() else path.with_name(f"{path.name}.gz")
    try:
        with opened(file) as stream, gzip.open(stream) if file != path else stream as plain:
            return plain.read(size + 1)
    except FileNotFoundError:
        raise Unavailable(f"{path.parent} has no {path.name}") from None
    except (OSError, EOFError) as error:
        raise Unavailable(f"{file} cannot be read: {error}") from error
