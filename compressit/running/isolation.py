"""What a plugin is lent, and must give back as it was: shared models and data, settings of the process, random numbers.

All code that is not ours runs in a `lending` block: datasets, models that are built or loaded, stages, evaluators.
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
"""How many values of a kind are kept; of any other 12."""
SAMPLE = 1024
"""Values of a tensor that are compared, at least, where it has so many."""
_WRITTEN = "written to"
_CALLED: Mapping[object, str] = {
    "model": "a model of ctx.model", "logits": "outputs of ctx.logits", "data": "the data", "raw": "the data",
}  # fmt: skip


@contextmanager
def lending(name: str, memo: MutableMapping[Hashable, Any] | None = None) -> Generator[None]:
    """A block in which the plugin `name` computes with what is in `memo`.

    Its global random numbers start from a stream named after it, whatever ran before, and go on afterwards as if it
    had not been there. Afterwards settings are what they were, and where something in a `Recent` memo was changed, that
    is empty: the next job loads anew what it needs. Raises CompressitError for either, unless the block raised.
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
            memo.clear()  # what was not changed may share its memory
    if damage:
        raise CompressitError(
            f"{name} changed what other jobs use too: {'; '.join(damage)}",
            "work on a copy (`x.clone()`, `copy.deepcopy(model)`) and leave what ctx gives as it was; "
            f"nothing of this was kept, and `compressit plugins check {name}` tries it again",
        )
    if changed:
        raise CompressitError(
            f"{name} left settings of the process changed: {', '.join(changed)}",
            "use a `with` block, or put them back in a `finally`; nothing of this was kept",
        )


class Recent(MutableMapping[Hashable, Any]):
    """Models, data and logits that jobs share, by keys whose first part is their kind; of each only the last used.

    It knows of each value how it looked as it came in.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._looks: dict[Hashable, dict[str, Hashable]] = {}

    def damage(self) -> list[str]:
        """What was changed since it came in: `the data (train.x)`. What was written to and looks as it did is
        forgotten: it may be another, or have been put back."""
        found: list[str] = []
        for key in self:
            before, now = self._looks[key], looks(self._items[key])
            parts = [part for part in {**before, **now} if before.get(part) != now.get(part)]
            if parts == [_WRITTEN]:
                del self[key]
            elif parts:
                told = [part for part in parts if part != _WRITTEN]
                more = f" and {len(told) - 3} more" if len(told) > 3 else ""
                called = _CALLED.get(_kind(key), "what it keeps in ctx.memo")
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
    """By the name of each part of `value`, what is another when that was changed, and how often torch wrote to them.

    It costs little, so it may miss what is hardly ever done: single values of a large tensor that were written past
    torch, through `.data` or numpy. The conformance kit compares every bit.
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
