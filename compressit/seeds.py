"""Every random draw comes from a named stream: hash(seed, purpose, stage, rung, epoch).

Nothing about a generator's state has to be saved: a resumed stage asks for the same streams again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Streams:
    """The random streams of one stage. Variants share them: twins see the same batches in the same order."""

    seed: int
    stage: str = ""
    rung: int | None = None

    def number(self, purpose: str, epoch: int | None = None) -> int:
        """A 63-bit seed for this purpose (and epoch)."""
        # JSON quotes the texts: no two lists of facts ever read alike.
        text = json.dumps([self.seed, purpose, self.stage, self.rung, epoch])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, purpose: str, epoch: int | None = None, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on `device`, seeded by `number(purpose, epoch)`."""
        import torch

        return torch.Generator(device=device).manual_seed(self.number(purpose, epoch))
