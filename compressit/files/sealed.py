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
    if value != plain(value):
        raise ValueError("it contains numbers or characters that compressit never writes")
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
    """The facts as they will be read (string keys, lists, null for numbers that are not finite), with their digest.

    Raises ValueError and TypeError for values that JSON cannot hold.
    """
    try:
        told = plain(json.loads(json.dumps(facts)))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    return {**told, SEAL: digest_of(told)}


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Atomically replaces the file with the sealed facts. Raises OSError, ValueError and TypeError."""
    replace(path, (json.dumps(sealed(facts), sort_keys=True, indent=1) + "\n").encode())


def digest_of(facts: Mapping[str, Any]) -> str:
    """sha256 of these facts, independent of formatting."""
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The canonical JSON of a value: sorted keys, no spaces. Raises TypeError or ValueError if it is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that `parse` accepts: too large numbers become null, lone surrogates their escapes (`\\udc80`).

    Raises ValueError if it is nested deeper than MOST_DEPTH.
    """
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    if isinstance(value, dict):
        return {_text(key): plain(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [  # most are numbers of curves, which need no call each
            item if type(item) is float and abs(item) < MOST_NUMBER else plain(item, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
            for item in value  # pyright: ignore[reportUnknownVariableType]
        ]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float) and not abs(value) < MOST_NUMBER:
        return None
    return value


def _text(value: Any) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")
