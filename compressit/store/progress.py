"""Saves a stage's state in the store while it runs, under the job's key."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import NonNegativeFloat, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from compressit.checkpoint.tensors import read_any
from compressit.contract.context import Progress
from compressit.errors import told
from compressit.store.objects import Store

_SHARE = 0.05  # of a stage's time that saving may take
_SECONDS = TypeAdapter[float](NonNegativeFloat)


class StoredProgress(Progress):
    """Saves at most every `every` seconds, and less often where that would take more than a twentieth of the time:
    the next save waits for 19 times what the last one took. With 0, every opportunity is used. `spent` is the time of
    earlier, killed sessions.

    If saving fails, the stage continues but cannot be resumed; `warn` is called once.
    """

    def __init__(self, store: Store, key: str, every: float, warn: Callable[[str], None]) -> None:
        self._store = store
        self._key = key
        self._every = every
        self._started = self._last = time.perf_counter()
        self._wait = every
        self._warn = warn
        self._warned = False
        self._loaded = False
        self.spent = 0.0

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        saved = self._store.load_progress(self._key)
        if saved is None:
            return None
        file, facts = saved
        try:
            spent = _SECONDS.validate_python(facts["seconds"], strict=True)
            found = read_any(file), facts["facts"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            self.refuse(told(error))
            return None
        if not self._loaded:  # later states are this session's own
            self._loaded, self.spent = True, spent
        return found

    def refuse(self, why: str) -> None:
        self.spent = 0.0
        self._warn(f"its saved progress is damaged and will not be used: {why}")

    def due(self) -> bool:
        return time.perf_counter() - self._last >= self._wait

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._loaded, started = True, time.perf_counter()
        try:
            self._save(tensors, facts)
        except Exception as error:  # noqa: BLE001 - a full disk, or a note that is not JSON, which is reported later
            if not self._warned:
                self._warned = True
                self._warn(
                    f"its progress cannot be saved; it continues, but cannot be resumed: {told(error)}"
                )
        self._last = time.perf_counter()
        if self._every:
            self._wait = max(self._every, (1 / _SHARE - 1) * (self._last - started))

    def _save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        # clones: momentum buffers and parameters must not share storage in a safetensors file
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        self._store.save_progress(
            self._key, {"seconds": self.seconds(), "facts": facts}, lambda path: save_file(plain, path)
        )

    def seconds(self) -> float:
        """How long the stage has taken so far, over all sessions."""
        return self.spent + time.perf_counter() - self._started
