"""JSON files of our own: sealed with a digest of what they say, and read as if a stranger had written them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressit.files.reading import opened
from compressit.files.writing import replace

MOST_BYTES = 2**28  # of a file: JSON takes up to 30 times its text when it is read
MOST_DEPTH = 100
MOST_NUMBER = 1e300  # nothing we measure is that large: a number that is has been made up, or overflows next
SEAL = "sha256"


def parse(text: bytes) -> Any:
    """The value of a JSON text: UTF-8, no repeated keys, MOST_DEPTH levels at most, numbers below MOST_NUMBER, texts
    that can be written again. Raises ValueError for anything else."""
    try:
        value = strict(text.decode())
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    if value != plain(value):
        raise ValueError("it holds numbers or characters that no file of ours holds")
    return value


def strict(text: str) -> Any:
    """JSON without repeated keys, NaN or Infinity. Raises ValueError and RecursionError."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, without the seal. Raises OSError, and ValueError for whatever was changed since."""
    with opened(path) as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    facts = parse(text)
    if not isinstance(facts, dict) or SEAL not in facts:
        raise ValueError("it has no seal: something else wrote it, or an older compressit")
    if facts.pop(SEAL) != digest_of(facts):
        raise ValueError("it was changed since it was written: the digest does not match")
    return facts


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as they will be read (text for keys, lists, null for numbers that are not finite), and their digest.

    Raises ValueError and TypeError for what JSON cannot hold.
    """
    try:
        told = plain(json.loads(json.dumps(facts)))
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    return {**told, SEAL: digest_of(told)}


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Puts the sealed facts in the place of the file, at once and for good. Raises OSError as well."""
    replace(path, (json.dumps(sealed(facts), sort_keys=True, indent=1) + "\n").encode())


def digest_of(facts: Mapping[str, Any]) -> str:
    """sha256 of what these facts say, however the text is laid out."""
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises TypeError or ValueError for what is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that `parse` takes: null for numbers beyond all measure, `\\udc80` for characters that are none.

    Raises ValueError beyond MOST_DEPTH.
    """
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    if isinstance(value, dict):
        return {_text(key): plain(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
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
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")
