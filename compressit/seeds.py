"""Every random draw comes from a named stream: hash(seed, purpose, stage, round, epoch).

Nothing about a generator's state has to be saved: a resumed stage asks for the same streams again. Somebody else's
code (a dataset, a network, a plugin) draws from the process's global generators as well: it runs in a `seeded` block.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Streams:
    """The random streams of one stage. Variants share them: they see the same batches in the same order."""

    seed: int
    stage: str = ""
    round: int | None = None

    def number(self, purpose: str, epoch: int | None = None) -> int:
        """A 63-bit seed for this purpose (and epoch)."""
        # JSON quotes the texts: no two lists of facts ever read alike.
        text = json.dumps([self.seed, purpose, self.stage, self.round, epoch])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, epoch: int | None = None, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on `device`, seeded by `number(purpose, epoch)`."""
        import torch

        return torch.Generator(device=device).manual_seed(self.number(purpose, epoch))


@contextmanager
def seeded(number: int) -> Generator[None]:
    """A block whose global random numbers (torch's on every device in use, numpy's, Python's) start from `number`.

    Afterwards they go on as if it had not been there. Imports no torch: where the block is the first to, torch's own
    fixed seed holds in it.
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
    """Lets the global random numbers start from `number`, for good."""
    import numpy as np

    random.seed(number)
    np.random.seed(number % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(number)
        if torch.cuda.is_initialized():  # else the seed would wait for whoever uses a GPU next
            torch.cuda.manual_seed_all(number)
