"""What a plugin gets besides the model: data, teachers, random streams, and places to record results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from compressit.config import ModelUse
from compressit.contract.classification import usual
from compressit.contract.compute import Compute
from compressit.contract.init_options import InitConfig
from compressit.contract.pictures import png_of
from compressit.contract.tasks import Task
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.seeds import Streams, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Judged:
    """The stage whose model an evaluator measures."""

    stage: str
    uses: str  # the plugin's name, or "init"
    config: Mapping[str, Any]
    notes: Mapping[str, Any]  # facts that the stage recorded with `ctx.note`
    streams: Streams  # the stage's random streams, to draw the same numbers again
    reference: str | None  # the model to compare with: its teacher, else `previous`; None for init


class Progress:
    """Saved state of a long stage or evaluation, so that a killed one can resume. This base class saves nothing."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last saved tensors and facts of this job, or None."""
        return None

    def due(self) -> bool:
        """Whether enough time has passed since the last save."""
        return False

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces the saved state atomically. `facts` are JSON values."""

    def refuse(self, why: str) -> None:
        """Reports that the loaded state could not be used, and why."""


@dataclass
class StageContext:
    """Everything that a stage or evaluator may use. It must not read anything else, since keys are made from this."""

    compute: Compute
    streams: Streams
    load_data: Callable[[], Data]
    load_model: Callable[[str], nn.Module]  # by declared reference; raises CompressitError for others
    task: Task[Any] = field(
        default_factory=usual
    )  # what the data pose; for evaluators without its training options
    round: int | None = None  # from 1 in a repeated stage
    feed: Literal["previous", "original"] = "previous"  # what each round starts from
    fresh: bool = (
        False  # the given model was built in this run and only trained since: no zero is from pruning
    )
    judged: Judged | None = None  # for evaluators that declare `uses_stage`
    progress: Progress = field(default_factory=Progress)
    init: InitConfig = field(
        default_factory=InitConfig
    )  # of fresh weights: `initial.initialise` carries them out
    narrow: Callable[[float, int], nn.Module | None] = lambda multiplier, times: None
    own_net: Callable[[ModelUse | str], nn.Module] | None = None  # builds, or loads by declared reference
    emit: Callable[[Mapping[str, Any]], None] = lambda event: None  # live progress; never part of a result
    # Shared by jobs on the same model and data. `identity` maps a reference to the model's key ("" is the data).
    memo: MutableMapping[Hashable, Any] = field(default_factory=dict[Hashable, Any])
    identity: Callable[[str], str] = lambda ref: ref
    fits: list[Any] = field(
        default_factory=list[Any]
    )  # trainings so far; a saved state belongs to one of them
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])
    arrays: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    pictures: dict[str, bytes] = field(default_factory=dict[str, bytes])  # PNG files
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def data(self) -> Data:
        """The variant's data on the device, shuffled by this stage's streams."""
        return self.load_data().with_streams(self.streams)

    def model(self, ref: str) -> nn.Module:
        """A teacher or parent by its declared reference: in eval mode, without gradients. Do not change it.

        Raises CompressitError for a reference that no `ModelRef` field of the stage's config declares.
        """
        key = ("model", self.identity(ref))
        if key not in self.memo:
            self.memo[key] = self.compute.placed(self.load_model(ref)).eval().requires_grad_(False)
        return self.memo[key]

    def times(self) -> int:
        """How often to apply the step to the given model: the round number if every round starts from the
        original, else 1."""
        return self.round if self.round is not None and self.feed == "original" else 1

    def with_width(self, multiplier: float, times: int = 1) -> nn.Module | None:
        """A fresh model of this stage's architecture with every hidden width multiplied by `multiplier` and
        rounded up, `times` times in a row. Weights come from the stage's stream "student". None if the architecture
        does not implement `with_width`, or the model was edited or pruned since it was built.

        `times=0` gives the model as it was built, whatever became of it; None only without a model plugin."""
        return self.narrow(multiplier, times)

    def net(self, given: ModelUse | str) -> nn.Module:
        """A net for the stage to train and return instead of the one that it gets: what a model plugin builds for its
        data, with fresh weights from the stage's stream "student"; or, of a declared reference, a copy of that model,
        for inputs as the stage's data are scaled. In train mode, on the device.

        Raises CompressitError for a net whose outputs are not what the task needs, and for an undeclared reference.
        """
        if self.own_net is None:
            raise CompressitError(
                "this context builds no nets", "run the stage in a recipe or by compressit.stage"
            )
        return self.own_net(given)

    def logits(self, model: nn.Module, split: str, ref: str = "model") -> Tensor:
        """The outputs, float32, on a split ("train", "validation", "test"): logits (N, classes), or what the task
        wants. `ref` says which model it is: the judged model by default. Computed once for all evaluators of a model.

        Raises CompressitError for outputs that are not what the task needs."""
        key = ("logits", self.identity(ref), self.identity(""), split)
        if key not in self.memo:
            # some nets draw random numbers in eval mode: they must not depend on which evaluator asks first
            with seeded(Streams(0, "logits").number(split)):
                outputs = self.compute.forward(model, self.data.split(split))
            self.task.check(outputs)
            self.memo[key] = outputs
        return self.memo[key]

    def log(self, step: float, **values: float) -> None:
        """Adds a point to each named curve: `ctx.log(step, loss=0.3)`."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((float(step), float(value)))

    def note(self, **facts: Any) -> None:
        """Records facts about what was done, as JSON values: achieved ratio, skipped layers, images seen."""
        self.notes.update(facts)

    def save(self, name: str, array: Tensor | np.ndarray) -> None:
        """Keeps a copy of an array with the result. Raises CompressitError unless it has booleans, integers or
        floats."""
        if isinstance(array, Tensor):
            array = array.detach().cpu()
            array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
        found = np.array(array)
        if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
            raise CompressitError(
                f"ctx.save('{name}') got values of type {found.dtype}", "save booleans, integers or floats"
            )
        self.arrays[name] = found

    def picture(self, name: str, image: np.ndarray | Tensor | Figure) -> None:
        """Keeps a picture with the result, as PNG. After a kill, only what is drawn from then on is kept.

        `image`: uint8 values (H, W) of gray or (H, W, 3) of red, green and blue, or a matplotlib Figure. Raises
        CompressitError for anything else and for too large a picture (`contract.pictures`).
        """
        self.pictures[name] = png_of(name, image)

    def keep(self, name: str, content: bytes) -> None:
        """Keeps a file for other programs with the result: `ctx.keep("net.onnx", content)`. Of evaluators only."""
        self.files[name] = bytes(content)

    def apart(self) -> StageContext:
        """This context with curves, notes, arrays, pictures and files of its own, which are kept nowhere: to `fit` what
        is not the result, such as a probe."""
        return replace(self, notes={}, curves={}, arrays={}, pictures={}, files={})


@dataclass(frozen=True)
class DataContext:
    """What a dataset gets to load its files."""

    cache: Path  # a folder for downloads, kept after the run
    announce: Callable[[str], None]  # shows a line to the user
