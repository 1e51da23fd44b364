"""JSON files with a digest of their content (the seal). They are read as untrusted input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressit.files.reading import opened
from compressit.files.writing import replace

MOST_BYTES = 2**28  # of a file: parsing JSON takes up to 30 times its size
MOST_DEPTH = 100
MOST_NUMBER = 1e300  # no real measurement is this large: such a number is forged or about to overflow
SEAL = "sha256"


def parse(text: bytes) -> Any:
    """Parses JSON: UTF-8, no repeated keys, at most MOST_DEPTH levels, numbers below MOST_NUMBER, strings that can be
    encoded again. Raises ValueError for anything else."""
    try:
        value = strict(text.decode())
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    if not _is_plain(value):
        raise ValueError("it contains numbers, characters or levels that compressit never writes")
    return value


def strict(text: str) -> Any:
    """Parses JSON without repeated keys, NaN or Infinity. Raises ValueError and RecursionError."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads what `write_sealed` wrote, without the seal. Raises OSError, and ValueError if the file was changed."""
    with opened(path) as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    facts = parse(text)
    if not isinstance(facts, dict) or SEAL not in facts:
        raise ValueError("it has no sha256 entry: another program or an older compressit wrote it")
    if facts.pop(SEAL) != digest_of(facts):
        raise ValueError("it was changed after writing: the digest does not match")
    return facts


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with their digest: string keys, null for numbers that are not finite, what `parse` accepts.

    Raises ValueError and TypeError for values that JSON cannot hold.
    """
    told = plain(dict(facts))
    return {**told, SEAL: digest_of(told)}


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Atomically replaces the file with the sealed facts, each on a line. Raises OSError, ValueError and TypeError.

    (An indent would be ten times as slow, and a line for each number.)
    """
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in sealed(facts).items()
    ]
    replace(path, ("{" + ",\n".join(sorted(lines)) + "}\n").encode())


def digest_of(facts: Mapping[str, Any]) -> str:
    """sha256 of these facts, independent of formatting."""
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The canonical JSON of a value: sorted keys, no spaces. Raises TypeError or ValueError if it is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """The value itself if JSON tells it as it is; else as it will be read, too large numbers as null, and lone
    surrogates as their escapes (`\\udc80`).

    Raises ValueError and TypeError for what JSON cannot hold.
    """
    if _is_plain(value):
        return value
    try:
        return _mended(json.loads(json.dumps(value)))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error


def _is_plain(value: Any) -> bool:
    """Whether these are lists, tuples and objects, at most MOST_DEPTH deep, of numbers below MOST_NUMBER and text that
    UTF-8 can hold. Level by level, without a call for each of the many numbers of curves."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is float or kind is int:
                if not -MOST_NUMBER < item < MOST_NUMBER:
                    return False
            elif kind is list or kind is tuple:
                below += item
            elif kind is dict:
                if not all(type(key) is str and key == _text(key) for key in item):
                    return False
                below += item.values()
            elif not (item is None or kind is bool or (kind is str and item == _text(item))):
                return False
        if not below:
            return True
        level = below
    return False


def _mended(value: Any, depth: int = 0) -> Any:
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    if isinstance(value, dict):
        return {_text(key): _mended(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_mended(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float) and not abs(value) < MOST_NUMBER:
        return None
    return value


def _text(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")
