"""Whether the tensors of a file fit a network, by names and shapes alone. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from compressit.errors import CompressitError

Shapes = Mapping[str, tuple[int, ...] | None]
"""The shapes of a state dict's tensors; None: not known before a first forward pass."""

MOST_LISTED = 10
_COUNTED = ".num_batches_tracked"  # of batch norms: old files lack it, and only `momentum=None` reads it
_WRAPPERS = ("module.", "_orig_mod.", "model.")


def kept_fresh(name: str, fresh: Sequence[str]) -> bool:
    """Whether the tensor keeps the builder's value."""
    return any(fnmatchcase(name, pattern) for pattern in fresh)


def idle(fresh: Sequence[str], net: Shapes, file: Shapes) -> list[str]:
    """The patterns that match no tensor, neither of the net nor of the file."""
    return [p for p in fresh if not any(fnmatchcase(name, p) for name in (*net, *file))]


def taken(net: Shapes, file: Shapes, fresh: Sequence[str]) -> list[str]:
    """The names of the tensors that the net gets from the file."""
    return [name for name in net if name in file and not kept_fresh(name, fresh)]


def misfit(net: Shapes, file: Shapes, fresh: Sequence[str], builder: str) -> CompressitError | None:
    """What is wrong with these weights for the net that `builder` builds, or None.

    All tensors but the `fresh` ones must have the same names and shapes. A batch norm's counter may be missing.
    """
    named = taken(net, file, fresh)
    missing = {n: s for n, s in net.items() if n not in file and not kept_fresh(n, fresh) and _needed(n)}
    surplus = {n: s for n, s in file.items() if n not in net and not kept_fresh(n, fresh)}
    other = {n: (file[n], net[n]) for n in named if net[n] is not None and file[n] != net[n]}
    if not (missing or surplus or other):
        hint = "leave `weights` out, or fewer tensors fresh"
        return None if named else CompressitError("no tensor of the file is used: all are `fresh`", hint)
    parts = [
        _listed(f"other shapes than {builder} builds", [f"{n} {a}, not {b}" for n, (a, b) in other.items()]),
        _listed("missing", [f"{n} {_shape(s)}" for n, s in missing.items()]),
        _listed(f"not in {builder}", [f"{n} {_shape(s)}" for n, s in surplus.items()]),
    ]
    text = "\n".join(["these weights do not fit the model", *filter(None, parts)])
    return CompressitError(text, _advice(missing, surplus, other))


def _needed(name: str) -> bool:
    return not name.endswith(_COUNTED)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else str(shape)


def _listed(title: str, entries: Sequence[str]) -> str | None:
    if not entries:
        return None
    more = f" and {len(entries) - MOST_LISTED:,} more" if len(entries) > MOST_LISTED else ""
    return f"{title}: {'; '.join(entry.strip() for entry in entries[:MOST_LISTED])}{more}"


def _advice(
    missing: Shapes,
    surplus: Shapes,
    other: Mapping[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]],
) -> str:
    for prefix in _WRAPPERS:
        if missing and all(prefix + name in surplus for name in missing):
            return f"the names begin with '{prefix}': `compressit import FILE` writes the file without it"
    if not missing and not surplus and _is_head(list(other.values())):
        layers = [name.rpartition(".")[0] for name in other]
        patterns = dict.fromkeys(f"{at}.*" if at else name for name, at in zip(other, layers, strict=True))
        return (
            "the file has a head for another number of classes: keep a fresh one with "
            f"`weights: {{file: …, fresh: {json.dumps(list(patterns))}}}`"
        )
    return (
        "use weights of this very architecture, or name the tensors that may differ: "
        "`weights: {file: …, fresh: […]}`"
    )


def _is_head(pairs: Sequence[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]) -> bool:
    """Whether all these tensors differ in their first side alone, from the same number to the same other number."""
    first = {(a[:1], b[:1]) for a, b in pairs if a and b}
    return len(first) == 1 and all(a and b and a[1:] == b[1:] for a, b in pairs)
