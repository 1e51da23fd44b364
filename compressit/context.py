"""What a plugin is given besides the model: data, teachers, random streams, and places for what it finds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from compressit.compute import Compute
from compressit.data import Data
from compressit.errors import CompressitError
from compressit.seeds import Streams


@dataclass(frozen=True)
class Judged:
    """The stage whose model an evaluator measures."""

    stage: str
    uses: str  # the plugin's name, or "init"
    config: Mapping[str, Any]
    notes: Mapping[str, Any]  # what the stage noted with `ctx.note`
    streams: Streams  # its random streams: the noise it was given can be drawn again
    reference: str | None  # what it is compared with: its teacher, else `previous`; None for init


class Progress:
    """Where a long stage keeps its state, so that a killed one goes on. This one keeps nothing."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last saved tensors and facts of this very task, or None."""
        return None

    def due(self) -> bool:
        """Whether enough time has passed since the last save."""
        return False

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces the saved state atomically. `facts` are JSON values."""


@dataclass
class StageContext:
    """Everything a stage may use. What is not here, it must not read: keys are made from it."""

    compute: Compute
    streams: Streams
    load_data: Callable[[], Data]
    load_model: Callable[[str], nn.Module]  # by declared reference; raises CompressitError otherwise
    rung: int | None = None  # 1-based within a ladder
    rungs: int = 1
    judged: Judged | None = None
    progress: Progress = field(default_factory=Progress)
    narrow: Callable[[nn.Module, float], nn.Module] | None = None
    emit: Callable[[Mapping[str, Any]], None] = lambda event: None  # live progress; never part of a result
    memo: dict[Any, Any] = field(default_factory=dict[Any, Any])  # shared by tasks on the same model and data
    memo_key: Callable[[str | None], str] = lambda ref: str(ref)
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])
    arrays: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    @property
    def data(self) -> Data:
        """The variant's data on the device, shuffled by this stage's own streams."""
        if "data" not in self.memo:
            self.memo["data"] = self.load_data()
        return self.memo["data"].with_streams(self.streams)

    def model(self, ref: str) -> nn.Module:
        """A teacher or parent by its declared reference: in eval mode, without gradients.

        Raises CompressitError for a reference that no `ModelRef` field of the stage's config declares.
        """
        key = ("model", self.memo_key(ref))
        if key not in self.memo:
            self.memo[key] = self.load_model(ref).to(self.compute.device).eval().requires_grad_(False)
        return self.memo[key]

    def narrower(self, model: nn.Module, factor: float) -> nn.Module:
        """A fresh model of the same architecture with every hidden width times `factor`, weights from the
        stream "init" of this stage. `factor` is relative to `model`.

        Raises CompressitError when the architecture does not say how to make it narrower.
        """
        if self.narrow is None:
            raise CompressitError("this context cannot build models", "give the stage a model from a recipe")
        return self.narrow(model, factor)

    def logits(self, model: nn.Module, split: str, ref: str | None = None) -> Tensor:
        """Outputs (N, classes) float32 of the judged model (or of `ref`, a declared reference) on a split,
        computed once for all evaluators of that model."""
        key = ("logits", self.memo_key(ref), split)
        if key not in self.memo:
            self.memo[key] = self.compute.forward(model, getattr(self.data, split).x)
        return self.memo[key]

    def log(self, step: float, **values: float) -> None:
        """Adds a point to each named curve: `ctx.log(step, loss=0.3)`."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((float(step), float(value)))

    def note(self, **facts: Any) -> None:
        """Facts about what was done, as JSON values: achieved ratio, skipped layers, images seen."""
        self.notes.update(facts)

    def save(self, name: str, array: Tensor | np.ndarray) -> None:
        """Keeps an array with the stage's artifact."""
        self.arrays[name] = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


@dataclass(frozen=True)
class DataContext:
    """What a dataset is given to load its files."""

    cache: Path  # a folder that outlives the run, for downloads
    announce: Callable[[str], None]  # a line for the user
