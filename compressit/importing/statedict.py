"""Finds the weights among what people save: a state dict, or one inside a training's checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from compressit.errors import CompressitError, did_you_mean

_PREFERRED = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
"""Of mappings with equally many values, the first of these is taken: the net rather than its moving average."""
_TRAINING = re.compile(r"(optim|.*sched|scaler|amp$|callbacks|loops|rng|criterion|loss)", re.IGNORECASE)
"""Keys under which there are tensors that are no weights."""
_DEEPEST = 5
_AVERAGES = "n_averaged"  # of torch.optim.swa_utils.AveragedModel: a counter beside the net


@dataclass(frozen=True)
class Found:
    """A mapping that holds tensors."""

    path: tuple[str, ...]  # of keys; () for the whole file
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)

    @property
    def size(self) -> int:
        """The number of values, without counters."""
        floats = sum(tensor.numel() for tensor in self.tensors.values() if tensor.is_floating_point())
        return floats or sum(tensor.numel() for tensor in self.tensors.values())


def find(value: Any, take: str | None) -> tuple[Found, list[Found]]:
    """The weights in what a file holds, and the other mappings of tensors there.

    That is the mapping with the most values, or the one at the path `take`. Raises CompressitError if there is none.
    """
    found = list(_mappings(value, ()))
    if not found:
        kind = type(value).__name__
        what = f"a {kind}" if not isinstance(value, Mapping) else f"a {kind} of {_keys(value)}"
        raise CompressitError(f"it holds no names with tensors, but {what}", "give a file with a state dict")
    chosen = max(found, key=lambda one: (one.size, -_rank(one)))
    if take is not None:
        chosen = next((one for one in found if one.name == take), None)
        if chosen is None:
            names = [one.name for one in found if one.name]
            raise CompressitError(f"--take {take}: no tensors are there", did_you_mean(take, names))
    return chosen, [one for one in found if one is not chosen]


def left_out(value: Any, chosen: Found) -> Iterator[tuple[tuple[str, ...], str]]:
    """What the file holds besides: paths, and the type of what is there."""
    for depth in range(len(chosen.path) + 1):
        path = chosen.path[:depth]
        for key, item in value.items():
            on_the_way = depth < len(chosen.path) and key == chosen.path[depth]
            if not on_the_way and key not in (chosen.tensors if path == chosen.path else ()):
                yield (*path, str(key)), type(item).__name__
        if depth < len(chosen.path):
            value = value[chosen.path[depth]]


@dataclass(frozen=True)
class Renamed:
    """New names of tensors, by their old ones, and what was cut off."""

    names: Mapping[str, str]
    without: tuple[str, ...]


def tidied(names: Sequence[str]) -> Renamed:
    """The names without what wrappers put before them: DataParallel, torch.compile, a Lightning module.

    `_orig_mod.` goes everywhere, `module.` and `model.` where all names begin with it. Raises CompressitError if two
    tensors would have the same name.
    """
    new = {name: name for name in names if name != _AVERAGES}
    without: list[str] = []
    while True:
        cut, prefix = _cut(list(new.values()))
        if prefix is None:
            break
        without.append(prefix)
        new = dict(zip(new, cut, strict=True))
    owners: dict[str, str] = {}
    for old, name in new.items():
        if name in owners:
            message = f"'{owners[name]}' and '{old}' would both be called '{name}'"
            raise CompressitError(message, "--keep-names keeps the names")
        owners[name] = old
    return Renamed(new, tuple(dict.fromkeys(without)))


def _cut(names: list[str]) -> tuple[list[str], str | None]:
    """The names without one more prefix, and which it was."""
    compiled = [re.sub(r"(^|\.)_orig_mod\.", r"\1", name) for name in names]
    if compiled != names:
        return compiled, "_orig_mod."
    for prefix in ("module.", "model."):
        if names and all(name.startswith(prefix) and name != prefix for name in names):
            return [name.removeprefix(prefix) for name in names], prefix
    return names, None


def _mappings(value: Any, path: tuple[str, ...]) -> Iterator[Found]:
    if not isinstance(value, Mapping) or len(path) > _DEEPEST:
        return
    named = {k: v for k, v in cast("Mapping[Any, Any]", value).items() if isinstance(k, str)}
    tensors = {key: item for key, item in named.items() if isinstance(item, Tensor)}
    if tensors:
        yield Found(path, tensors)
    for key, item in named.items():
        if not _TRAINING.match(key):
            yield from _mappings(item, (*path, key))


def _rank(found: Found) -> int:
    last = found.path[-1] if found.path else ""
    return _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)


def _keys(value: Mapping[Any, Any]) -> str:
    names = [str(key) for key in value][:10]
    return ", ".join(names) or "nothing"
