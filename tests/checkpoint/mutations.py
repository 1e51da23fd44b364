"""Checkpoints as damage or malice would leave them, drawn from a seeded generator.

`damaged` knows nothing of digests; `forged` makes every digest match again, as an attacker would.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from . import forge

Draw = random.Random
Numbers = Sequence[tuple[str, str, Any]]
"""Path of a layer, name of an attribute of it that is a number or a tuple of some, its value."""
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**70, 10**15, 0.5, 1e300, "", "a.b", "..", "__class__",
    "__init__", "_parameters", "weight", "F64", "BOOL", "I64", "float64", "int64", "tiny.conv", "tiny.LowRank",
    [], [[]], [1, 2], [2**40, 2**40], [0, 2**62], {}, {"a": 1}, {"at": "", "do": "set", "attrs": {"training": 1}},
)  # fmt: skip

_NUMBERS = (0, 0, -1, 1, 2, 3, 5, 8, 9, 64, 65, 100, 1000, 2**20, 2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**64,
            -(2**31), None, True, False, 0.0, 0.5, 2.0, -1.0, 1e-300, 1e308)  # fmt: skip

_SIZES = (2, 4, 8, 16, 64, 100, 500, 1000, 2000, 4000, 2**14, 2**16, 2**20, 2**24)
_ORDERING = ("kernel_size", "padding", "stride", "dilation", "scale_factor", "size", "output_size", "output_padding",
             "num_embeddings", "_reversed_padding_repeated_twice", "hidden_size", "num_layers")  # fmt: skip


def damaged(content: bytes, draw: Draw) -> bytes:
    """A file with changed, missing, repeated or additional bytes, or a header edited without its digests."""
    return draw.choice((_flip, _flip, _cut, _extend, _overwrite, _move, _length, _unsigned))(content, draw)


def forged(content: bytes, draw: Draw, numbers: Numbers) -> bytes:
    """A file whose description, table or tensors were edited, with digests that match.

    `numbers`: layers of its network and the names of their numbers.
    """
    table, entry, data = forge.split(content)
    kind = draw.random()
    if kind < 0.4:
        for _ in range(draw.choice((1, 1, 2, 3))):
            (_renumber if kind < 0.25 else _order)(entry, numbers, draw)
        return forge.joined(table, entry, data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not table:  # all taken out
            break
        data = draw.choice((_describe, _describe, _tabulate, _swap, _retype, _edit))(table, entry, data, draw)
    with suppress(TypeError, ValueError, KeyError):  # an odd table has no digest
        entry["tensors_sha256"] = forge.digest(table, data)
    return forge.joined(table, entry, data)


def _flip(content: bytes, draw: Draw) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 4, 40))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: Draw) -> bytes:
    return content[: draw.randrange(len(content))]


def _extend(content: bytes, draw: Draw) -> bytes:
    return content + draw.choice((b"\0", b"\x80\x02.", draw.randbytes(64), content))


def _overwrite(content: bytes, draw: Draw) -> bytes:
    at, count = draw.randrange(len(content)), draw.choice((1, 8, 64))
    with_what = draw.choice(
        (b"\0" * count, b"\xff" * count, b'"' * count, b"[" * count, draw.randbytes(count))
    )
    return content[:at] + with_what + content[at + count :]


def _move(content: bytes, draw: Draw) -> bytes:
    at, to, count = draw.randrange(len(content)), draw.randrange(len(content)), draw.randrange(1, 64)
    rest = content[:at] + content[at + count :]
    return rest[:to] + content[at : at + count] + rest[to:]


def _length(content: bytes, draw: Draw) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    other = draw.choice((0, 1, length - 1, length + 1, length - 8, length + 8, 10**8, 2**63, 2**64 - 1))
    return struct.pack("<Q", other) + content[8:]


def _unsigned(content: bytes, draw: Draw) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    _put_something_odd(header, draw)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _describe(table: Any, entry: Any, data: bytes, draw: Draw) -> bytes:
    _put_something_odd(entry, draw)
    return data


def _tabulate(table: Any, entry: Any, data: bytes, draw: Draw) -> bytes:
    _put_something_odd(table, draw)
    return data


def _swap(table: Any, entry: Any, data: bytes, draw: Draw) -> bytes:
    """Two tensors change places, names, shapes or offsets."""
    one, other = draw.choice(list(table)), draw.choice(list(table))
    if draw.random() < 0.3:
        table[one], table[other] = table[other], table[one]
    elif isinstance(table[one], dict) and isinstance(table[other], dict):
        key = draw.choice(("shape", "data_offsets", "dtype"))
        table[one][key], table[other][key] = table[other].get(key), table[one].get(key)
    return data


def _retype(table: Any, entry: Any, data: bytes, draw: Draw) -> bytes:
    """A tensor of the same bytes with another type and shape, or of other values."""
    tensor = table[draw.choice(list(table))]
    if not isinstance(tensor, dict) or not isinstance(tensor.get("shape"), list):
        return data
    change = draw.randrange(3)
    if change == 0:
        tensor["shape"] = draw.choice((tensor["shape"][::-1], [*tensor["shape"], 1], [1, *tensor["shape"]]))
    elif change == 1:
        tensor["dtype"] = {"F32": "I32", "I64": "F64"}.get(str(tensor.get("dtype")), "F32")
    else:
        at = draw.randrange(len(data))
        data = data[:at] + draw.randbytes(4) + data[at + 4 :]
    return data


def _edit(table: Any, entry: Any, data: bytes, draw: Draw) -> bytes:
    """One more edit: sensible names, odd values."""
    names = [name.rpartition(".")[0] for name in table] + ["", "nowhere"]
    words = ("in_features", "out_features", "in_channels", "groups", "kernel_size", "stride", "padding", "eps",
             "num_features", "momentum", "p", "inplace", "start_dim", "_forward_hooks", "__dict__",
             "training")  # fmt: skip
    attrs = {draw.choice(words): draw.choice(_ODD)}
    new: dict[str, Any] = {"do": "set", "at": draw.choice(names), "attrs": attrs}
    if draw.random() < 0.3:
        odd = draw.choice((3, -1, 10**9, None, "x"))
        args = {"inputs": 16, "rank": odd, "outputs": 12}
        new = {"do": "replace", "at": draw.choice(names), "type": draw.choice(("tiny.LowRank", "os.system"))}
        new["args"] = args
    if isinstance(entry.get("edits"), list):
        entry["edits"] = [*entry["edits"], new]
    return data


def _renumber(entry: Any, numbers: Numbers, draw: Draw) -> None:
    """One more edit, of a number that is there: what native code would be handed."""
    at, name, built = draw.choice(numbers)
    value = draw.choice(_NUMBERS)
    if isinstance(built, (tuple, list)) and draw.random() < 0.9:
        value = [draw.choice((value, value, *built)) for _ in built]
    entry["edits"] = [*entry["edits"], {"do": "set", "at": at, "attrs": {name: value}}]


def _order(entry: Any, numbers: Numbers, draw: Draw) -> None:
    """Sizes that would make small tensors large: of the input, of the net to build, of what its layers give."""
    shapes = [holder for holder in (entry.get("model"), entry.get("input"), entry.get("probe")) if holder]
    change = draw.randrange(3)
    if change == 0 and shapes:
        holder = draw.choice(shapes)
        built = holder["inputs"]["shape"] if "inputs" in holder else (holder.get("shapes") or [[1, 8, 8]])[0]
        drawn = [draw.choice((size, size, *_SIZES)) for size in built]
        if "inputs" in holder:
            holder["inputs"]["shape"] = drawn
        else:
            holder["shapes"] = [drawn]
    elif change == 1 and entry.get("model"):
        config = entry["model"]["config"]
        for name, value in config.items():
            if isinstance(value, list):
                config[name] = [draw.choice(_SIZES)] * draw.choice((1, len(value), 40))
            elif isinstance(value, int):
                config[name] = draw.choice(_SIZES)
        entry["model"]["outputs"] = draw.choice((entry["model"]["outputs"], *_SIZES))
    else:
        wide = [each for each in numbers if each[1] in _ORDERING]
        at, name, built = draw.choice(wide or numbers)
        size = draw.choice(_SIZES)
        value = [size for _ in built] if isinstance(built, (tuple, list)) else size
        entry["edits"] = [*entry["edits"], {"do": "set", "at": at, "attrs": {name: value}}]


def _put_something_odd(value: Any, draw: Draw) -> None:
    places = list(_places(value))
    if not places:
        return
    holder, key = draw.choice(places)
    change: Callable[[], Any] = draw.choice(
        (
            lambda: copy.deepcopy(draw.choice(_ODD)),
            lambda: copy.deepcopy(draw.choice(_ODD)),
            lambda: _nudged(holder[key], draw),
        )
    )
    if isinstance(holder, dict) and draw.random() < 0.2:
        moved = holder.pop(key)
        if draw.random() < 0.5:
            holder[draw.choice(("", "a.b", "__metadata__", f"{key}x"))] = moved
    else:
        holder[key] = change()


def _nudged(value: Any, draw: Draw) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + draw.choice((-1, 1, 8, 1000))
    if isinstance(value, str):
        return draw.choice((value + "x", value[:-1], value.upper(), f"../{value}"))
    return [value] if draw.random() < 0.5 else None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
