"""What jobs of one worker share without knowing of each other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any

from compressit.running.fingerprint import changed, fingerprint


class Recent(MutableMapping[Hashable, Any]):
    """A mapping that keeps only what was used last: models, data and logits that jobs share.

    It knows the fingerprint of each value as it came in, and which were asked for since `begin`.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._fingerprints: dict[Hashable, dict[str, Hashable]] = {}
        self._used: dict[Hashable, None] = {}

    def begin(self) -> None:
        """Forgets what was asked for so far."""
        self._used.clear()

    def damage(self) -> dict[Hashable, list[str]]:
        """The parts that were changed in what was asked for since `begin`, by key."""
        found = {
            key: changed(self._fingerprints[key], fingerprint(self._items[key]))
            for key in self._used
            if key in self._items
        }
        return {key: parts for key, parts in found.items() if parts}

    def __getitem__(self, key: Hashable) -> Any:
        self._items.move_to_end(key)
        self._used[key] = None
        return self._items[key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        self._fingerprints[key] = fingerprint(value)
        self._used[key] = None
        while len(self._items) > self._capacity:
            del self[next(iter(self._items))]

    def __delitem__(self, key: Hashable) -> None:
        del self._items[key], self._fingerprints[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)
