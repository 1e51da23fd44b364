"""What the built-ins' tests work with: small data, nets and contexts, and stages that are killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressit.contract.context import DataContext, Progress, StageContext
from compressit.datasets.preparation import prepare
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit_plugins.data.synthetic import Synthetic, SyntheticConfig
from compressit_plugins.models.mlp import Mlp, MlpConfig


class Killed(Exception):
    """Raised right after a state was saved."""


class KilledAfter(Progress):
    """Saves at every epoch's end and, the first time `epochs` are done, kills the stage."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.saved: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved

    def due(self) -> bool:
        return True

    def save(self, tensors: Any, facts: Any) -> None:
        resumed = self.saved is not None and self.saved[1]["epoch"] >= self.epochs
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.saved = (copies, {**facts, "curves": dict(facts["curves"]), "notes": dict(facts["notes"])})
        if facts["epoch"] == self.epochs and not resumed:
            raise Killed


@dataclass(frozen=True)
class Lab:
    """The fixture `lab`."""

    context: Callable[..., StageContext]
    cache: Path

    def data(self, device: str = "cpu", **options: Any) -> Data:
        """`data.synthetic` with these options, prepared as the host does, on that device."""
        dataset = Synthetic(SyntheticConfig(**options))
        raw = dataset.load(DataContext(self.cache, print))
        return prepare(raw, dataset.config, dataset.classes, dataset.class_names, device)

    def mlp(self, *hidden: int, seed: int = 0) -> nn.Module:
        """A seeded `model.mlp` for inputs of 1x8x8 and 10 classes; each call builds the same one."""
        torch.manual_seed(seed)
        return Mlp(MlpConfig(hidden=hidden or (16,))).build(TensorSpec((1, 8, 8)), 10)

    def narrow(self, *hidden: int) -> Callable[[float, int], nn.Module]:
        """The context's `narrow` for a stage that is given a `model.mlp` of these widths."""

        def narrow(multiplier: float, times: int) -> nn.Module:
            config = MlpConfig(hidden=hidden)
            for _ in range(times):
                config = Mlp(config).with_width(multiplier)
            torch.manual_seed(1)
            return Mlp(config).build(TensorSpec((1, 8, 8)), 10)

        return narrow
