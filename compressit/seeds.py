"""Random streams: every random draw comes from a stream seeded by hash(seed, purpose, stage, round, epoch).

No generator state needs saving, since a resumed stage asks for the same streams again. Plugin code (datasets,
networks, stages) may also draw from the global generators, so it runs in a `seeded` block.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Streams:
    """The random streams of one stage. Variants share them, so they see the same batches in the same order."""

    seed: int
    stage: str = ""
    round: int | None = None

    def number(self, purpose: str, epoch: int | None = None) -> int:
        """A 63-bit seed for this purpose (and epoch)."""
        last = "null" if epoch is None else epoch
        text = f"{_opening(self.seed, purpose, self.stage, self.round)}, {last}]"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, epoch: int | None = None, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on `device`, seeded by `number(purpose, epoch)`."""
        import torch

        return torch.Generator(device=device).manual_seed(self.number(purpose, epoch))


@lru_cache(typed=True)
def _opening(*values: int | str | None) -> str:
    """A JSON list without its end. JSON quotes strings, so different values never give the same text."""
    return json.dumps(values)[:-1]


@contextmanager
def seeded(number: int) -> Generator[None]:
    """A block in which the global generators (torch's on every device in use, NumPy's, Python's) start from `number`.

    Afterwards their state is restored. Does not import torch; if the block is the first to import it, torch starts
    from its own fixed default seed.
    """
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    with ExitStack() as kept:
        if torch is not None:
            # a block on the CPU must not wake a GPU
            devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
            kept.enter_context(torch.random.fork_rng(devices=devices))
        draw_from(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def draw_from(number: int) -> None:
    """Seeds the global generators with `number`, without restoring them later."""
    import numpy as np

    random.seed(number)
    np.random.seed(number % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(number)
        if torch.cuda.is_initialized():  # otherwise the seed would affect the first later use of a GPU
            torch.cuda.manual_seed_all(number)
