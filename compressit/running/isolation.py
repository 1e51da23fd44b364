"""Checks that plugins leave shared models, data and process settings unchanged, and isolates their random numbers.

All plugin code runs in a `lending` block: datasets, builders, stages, evaluators.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressit.errors import CompressitError
from compressit.running import process_state, rng

MOST: Mapping[object, int] = {"raw": 1, "data": 3}
"""How many values of a kind are kept; 12 of any other kind."""
SAMPLE = 1024
"""The minimum number of values compared per tensor, if it has that many."""
_WRITTEN = "written to"
_CALLED: Mapping[object, str] = {
    "model": "a model of ctx.model", "logits": "outputs of ctx.logits", "data": "the data", "raw": "the data",
}  # fmt: skip


@contextmanager
def lending(name: str, memo: MutableMapping[Hashable, Any] | None = None) -> Generator[None]:
    """A block in which the plugin `name` runs and may use what is in `memo`.

    The global generators start from a stream named after the plugin; afterwards their state is restored. Process
    settings are restored too. If something in a `Recent` memo was changed, the memo is cleared, so the next job reloads
    it. Raises CompressitError for changed settings or values, unless the block itself raised.
    """
    before = process_state.read()
    changed: list[str] = []
    damage: list[str] = []
    try:
        with rng.lent(name):
            yield
    finally:
        changed = process_state.put_back(before)
        if isinstance(memo, Recent) and (damage := memo.damage()):
            memo.clear()  # other entries may share memory with the changed one
    if damage:
        raise CompressitError(
            f"{name} changed objects that other jobs share: {'; '.join(damage)}",
            "change a copy instead (`x.clone()`, `copy.deepcopy(model)`), never what ctx returns; "
            f"the result was discarded; to reproduce, run `compressit plugins check {name}`",
        )
    if changed:
        raise CompressitError(
            f"{name} changed process settings and did not restore them: {', '.join(changed)}",
            "use a `with` block, or restore them in a `finally`; the result was discarded",
        )


class Recent(MutableMapping[Hashable, Any]):
    """A cache of models, data and logits that jobs share; the first part of a key is the kind of its value.

    Keeps the most recently used values of each kind, and remembers their original state to detect changes.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._looks: dict[Hashable, dict[str, Hashable]] = {}

    def damage(self) -> list[str]:
        """What was changed since it was added: `the data (train.x)`. A value that was written to but looks the same
        is dropped, since a change may be hidden or restored."""
        found: list[str] = []
        for key in self:
            before, now = self._looks[key], looks(self._items[key])
            parts = [part for part in {**before, **now} if before.get(part) != now.get(part)]
            if parts == [_WRITTEN]:
                del self[key]
            elif parts:
                told = [part for part in parts if part != _WRITTEN]
                more = f" and {len(told) - 3} more" if len(told) > 3 else ""
                called = _CALLED.get(_kind(key), "a value in ctx.memo")
                found.append(f"{called} ({', '.join(told[:3])}{more})")
        return found

    def __getitem__(self, key: Hashable) -> Any:
        self._items.move_to_end(key)
        return self._items[key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        self._looks[key] = looks(value)
        for old in [other for other in self if _kind(other) == _kind(key)][: -MOST.get(_kind(key), 12)]:
            del self[old]

    def __delitem__(self, key: Hashable) -> None:
        del self._items[key], self._looks[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)


def looks(value: object) -> dict[str, Hashable]:
    """A cheap fingerprint of each part of `value`, by name, and how often torch wrote to its tensors.

    It can miss single values of a large tensor that were written through `.data` or numpy, which is rare. The
    conformance kit compares every bit.
    """
    found: dict[str, Hashable] = {}
    written = 0
    for name, part in _parts(value, ""):
        found[name] = _of_tensor(part) if isinstance(part, Tensor) else part
        written += part._version if isinstance(part, Tensor) and not part.is_inference() else 0
    return {**found, _WRITTEN: written}


def _kind(key: Hashable) -> object:
    return key[0] if isinstance(key, tuple) and key else key


def _parts(value: object, name: str) -> Iterator[tuple[str, Hashable]]:
    if isinstance(value, Tensor):
        yield name or "its values", value
    elif isinstance(value, nn.Module):
        for at, layer in value.named_modules():
            hooks = [len(held) for kind, held in vars(layer).items() if kind.endswith("_hooks") and held]
            yield f"type, mode or hooks of {at or 'the whole'}", (type(layer), layer.training, tuple(hooks))
        yield from (
            (at, part) for at, part in value.state_dict(keep_vars=True).items() if isinstance(part, Tensor)
        )
    elif isinstance(value, tuple | dict):  # of tensors: inputs of several
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(part, Tensor | tuple | dict):
                yield from _parts(part, f"{name}.{key}".lstrip("."))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))


def _of_tensor(tensor: Tensor) -> Hashable:
    facts = (tuple(tensor.shape), tensor.dtype, tensor.requires_grad)
    if tensor.is_meta or tensor.is_nested or tensor.layout is not torch.strided:
        return facts
    values = tensor.detach().resolve_conj().resolve_neg().flatten()
    sample = values[:: max(1, len(values) // SAMPLE)].contiguous().view(torch.uint8)
    return *facts, bytes(sample.cpu().numpy())
