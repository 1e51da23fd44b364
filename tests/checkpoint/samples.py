"""The architectures of the local plugin file that the tests save and load; and whether two nets are one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.tensors import same_bits
from compressit.datasets.specs import TensorSpec

TINY = Path(__file__).with_name("tiny_models.py")
MLP = Architecture("tiny.mlp", {"hidden": [12, 8]}, (1, 4, 4), 5)
CONV = Architecture("tiny.conv", {"channels": [8, 12]}, (2, 6, 6), 3)
TIED = Architecture("tiny.tied", {}, TensorSpec((7,), "int64", 0, 8), 9)
HEADS = Architecture("tiny.heads", {}, (8,), 4)
TOKENS = Architecture("tiny.tokens", {"width": 16, "heads": 2}, (2, 6, 6), 3)


def equal(one: nn.Module, other: nn.Module) -> bool:
    """To the last bit of their states."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)
