"""Where examples come from: what a dataset loads, and the sources that are read batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from compressit.errors import CompressitError

CALLED = {"train": "training", "train_plain": "plain training", "test": "test", "validation": "validation"}


_TENSORS = (
    "inputs are uint8 in 0..255 or float in 0..1 tensors (N, *shape), targets numbers (N, ...), as labels; the "
    "option `scale: standard` standardises inputs"
)


class SkipExample(Exception):  # noqa: N818 - not an error: the others are used
    """Raised by an item of a dataset's torch Dataset to leave this example out; the text says which it is, and why.

    The host counts and names them. Examples with random transforms (`train_plain`) cannot be left out.
    """


class Source(ABC):
    """Examples that are read batch by batch. `targets` (N, ...) are known beforehand, on the CPU."""

    targets: Tensor
    left_out: tuple[str, ...] = ()  # why, for each example that was left out

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one input."""

    @abstractmethod
    def with_targets(self, targets: Tensor) -> Source:
        """The same inputs with these targets."""

    @abstractmethod
    def read(self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """For each of `batches`, indices (B,) int64, the raw inputs (B, *shape): uint8 in 0..255 or float in 0..1.

        `seeds` (B,) int64 for each batch: of a training, for transforms that draw. Without them the examples are read
        as they are measured.
        """


Examples = tuple[Tensor, Tensor] | Source | Dataset[Any]
"""Of one split: inputs (N, *shape), uint8 in 0..255 or float in 0..1, and targets (N, ...): labels (N,), or what the
task takes; or a map-style torch Dataset whose items are such an input and its target. A Source is the host's own."""


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


def shape_of(examples: Examples) -> tuple[int, ...]:
    """The shape of one input."""
    if isinstance(examples, tuple):
        return tuple(examples[0].shape[1:])
    assert isinstance(examples, Source), "the host makes a source of a torch Dataset as it loads it"
    return examples.shape


def raw_batches(examples: Examples, at: Tensor, size: int = 1024) -> Iterator[Tensor]:
    """The raw inputs at `at` (n,) int64, batch by batch."""
    if isinstance(examples, tuple):
        return (examples[0].index_select(0, part) for part in at.split(size))
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
    for name, value in (("inputs", x), ("targets", y)):
        if not isinstance(value, Tensor):
            return f"{name} are a {type(value).__name__}, not a tensor"
        if value.is_meta or value.is_nested or value.layout is not torch.strided:
            kind = "on the device meta" if value.is_meta else "nested" if value.is_nested else value.layout
            return f"{name} are {kind}, without values to read"
    if y.is_complex() or y.ndim < 1:
        return f"targets are {y.dtype} of shape {tuple(y.shape)}"
    if len(x) != len(y) or len(x) == 0:
        return f"split has {len(x)} inputs and {len(y)} targets"
    if x.ndim < 2 or x.numel() == 0:
        return f"inputs have shape {tuple(x.shape)}"
    if x.dtype == torch.uint8:
        return None
    if not x.is_floating_point():
        return f"inputs are {x.dtype}"
    low, high = (float(value) for value in x.detach().float().aminmax())  # float8 has none
    return None if low >= 0 and high <= 1 else f"inputs go from {low:g} to {high:g}"  # NaN too
