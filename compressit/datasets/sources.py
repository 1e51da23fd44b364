"""Where examples come from: what a dataset loads, and the sources that are read batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from compressit.datasets.batched import InputTensors, each_tensor, picked, shapes, tensors_of
from compressit.errors import CompressitError

CALLED = {"train": "training", "train_plain": "plain training", "test": "test", "validation": "validation"}


_TENSORS = (
    "inputs are tensors (N, *shape), or a tuple or dict of them: uint8, floats, whole numbers or bool; targets are "
    "numbers (N, ...), as labels"
)


class SkipExample(Exception):  # noqa: N818 - not an error: the others are used
    """Raised by an item of a dataset's torch Dataset to leave this example out; the text says which it is, and why.

    The host counts and names them. Examples with random transforms (`train_plain`) cannot be left out.
    """


class Source(ABC):
    """Examples that are read batch by batch. `targets` (N, ...) are known beforehand, on the CPU."""

    targets: Tensor
    like: InputTensors  # (0, *shape), of the types in which inputs are read
    left_out: tuple[str, ...] = ()  # why, for each example that was left out
    draws: ClassVar[bool] = False  # whether a training reads other inputs in each epoch

    @property
    def shape(self) -> Any:
        """Of one input; of several tensors in their structure."""
        return shapes(self.like)

    @property
    def known(self) -> InputTensors:
        """The inputs that are in memory: all of them (N, *shape), or none (0, *shape)."""
        return self.like

    @abstractmethod
    def with_targets(self, targets: Tensor) -> Source:
        """The same inputs with these targets."""

    @abstractmethod
    def read(
        self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None
    ) -> Iterator[InputTensors]:
        """For each of `batches`, indices (B,) int64, the raw inputs (B, *shape): as declared, or uint8 in 0..255.

        `seeds` (B,) int64 for each batch: of a training, for transforms that draw. Without them the examples are read
        as they are measured.
        """


@dataclass(frozen=True)
class Held(Source):
    """Examples of a torch Dataset in memory: those with several inputs, or with whole numbers."""

    inputs: InputTensors
    targets: Tensor
    left_out: tuple[str, ...] = ()

    @property
    def like(self) -> InputTensors:  # type: ignore[override]
        return each_tensor(self.inputs, lambda tensor: tensor[:0])

    @property
    def known(self) -> InputTensors:
        return self.inputs

    def with_targets(self, targets: Tensor) -> Held:
        return replace(self, targets=targets)

    def read(
        self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None
    ) -> Iterator[InputTensors]:
        """Nothing is drawn: `seeds` are idle."""
        for index in batches:
            yield picked(self.inputs, index)


Examples = tuple[InputTensors, Tensor] | Source | Dataset[Any]
"""Of one split: inputs (N, *shape) as declared, floats in 0..1 as uint8 in 0..255 too, and targets (N, ...): labels
(N,), or what the task takes; or a map-style torch Dataset whose items are such an input and its target. Several inputs
are a tuple or dict. A Source is the host's own."""


@dataclass(frozen=True)
class Sources:
    """What a dataset loads: the examples of each split.

    `train_plain`: the training examples without the random transforms that those of the Dataset `train` go through.
    Raises CompressitError for examples of another type, length or range.
    """

    train: Examples
    test: Examples | None = None
    validation: Examples | None = None
    train_plain: Examples | None = None

    def __post_init__(self) -> None:
        for name, examples in self.given().items():
            fault = _dataset_fault(examples) if isinstance(examples, Dataset) else _fault(examples)
            if fault:
                hint = "give a torch Dataset with `__len__` and `__getitem__`, of one example or more"
                raise CompressitError(
                    f"the dataset's {CALLED[name]} {fault}",
                    hint if isinstance(examples, Dataset) else _TENSORS,
                )

    def given(self) -> dict[str, Examples]:
        """By their names, those there are."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: examples for name, examples in found.items() if examples is not None}


def retargeted(sources: Sources, name: str, cast: Callable[[Tensor], Tensor]) -> Sources:
    """With `cast` applied to the targets of every split. What it refuses is said of the data called `name`."""
    made: dict[str, Examples] = {}
    for split, examples in sources.given().items():
        try:
            targets = cast(targets_of(examples))
        except CompressitError as error:
            raise CompressitError(f"{name}: {CALLED[split]} {error.message}", error.hint) from error
        source = examples.with_targets(targets) if isinstance(examples, Source) else None
        made[split] = source or (examples[0], targets)  # type: ignore[index]
    return Sources(**made)


def targets_of(examples: Examples) -> Tensor:
    """The targets (N, ...), on the CPU."""
    if isinstance(examples, tuple):
        return examples[1]
    assert isinstance(examples, Source), "the host makes a source of a torch Dataset as it loads it"
    return examples.targets


def inputs_of(examples: Examples) -> InputTensors:
    """The inputs that are in memory: all of them (N, *shape), or none (0, *shape)."""
    if isinstance(examples, tuple):
        return examples[0]
    assert isinstance(examples, Source), "the host makes a source of a torch Dataset as it loads it"
    return examples.known


def shape_of(examples: Examples) -> Any:
    """The shape of one input; of several tensors in their structure."""
    return shapes(inputs_of(examples))


def raw_batches(examples: Examples, at: Tensor, size: int = 1024) -> Iterator[InputTensors]:
    """The raw inputs at `at` (n,) int64, batch by batch."""
    if isinstance(examples, tuple):
        return (picked(examples[0], part) for part in at.split(size))
    assert isinstance(examples, Source), "the host makes a source of a torch Dataset as it loads it"
    return examples.read(at.split(size))


def _dataset_fault(examples: Dataset[Any]) -> str | None:
    """What is wrong with a torch Dataset, if anything, as far as its length tells."""
    kind = type(examples).__name__
    if isinstance(examples, IterableDataset):
        return f"examples are a {kind}, an IterableDataset: it has no number of examples, and no order to draw from"
    try:
        count = len(examples)  # type: ignore[arg-type]
    except TypeError:
        return f"examples are a {kind}, a torch Dataset without `__len__`"
    return None if count else f"examples are a {kind} of no examples"


def _fault(examples: object) -> str | None:
    """What is wrong with the examples of a split as they were loaded, if anything."""
    if isinstance(examples, Source):
        return None
    if not (isinstance(examples, tuple) and len(examples) == 2):
        return f"examples are a {type(examples).__name__}, not a pair of tensors or a torch Dataset"
    x, y = examples
    several = isinstance(x, tuple | dict) and len(x) > 0
    inputs: Any = tensors_of(x) if several else (x,)
    for name, value in (*(("inputs", tensor) for tensor in inputs), ("targets", y)):
        if not isinstance(value, Tensor):
            return f"{name} are a {type(value).__name__}, not a tensor"
        if value.is_meta or value.is_nested or value.layout is not torch.strided:
            kind = "on the device meta" if value.is_meta else "nested" if value.is_nested else value.layout
            return f"{name} are {kind}, without values to read"
    if y.is_complex() or y.ndim < 1:
        return f"targets are {y.dtype} of shape {tuple(y.shape)}"
    return next(filter(None, (_input_fault(tensor, y, several) for tensor in inputs)), None)


def _input_fault(x: Tensor, y: Tensor, several: bool) -> str | None:
    """What is wrong with a tensor of inputs, as far as that is known without what is declared."""
    if x.ndim < 1 + (not several) or x.numel() == 0:
        return f"inputs have shape {tuple(x.shape)}"
    if len(x) != len(y):
        return f"split has {len(x)} inputs and {len(y)} targets"
    return f"inputs are {x.dtype}" if x.is_complex() else None
