"""What plugins read of the data: splits, whose examples come in batches wherever they are kept."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from compressit.datasets import statistics
from compressit.datasets.augmentation import example_seeds
from compressit.datasets.batched import (
    InputTensors,
    built,
    each_tensor,
    only,
    picked,
    shapes,
    tensors_of,
    volume,
)
from compressit.datasets.batching import BatchSize, batch_sizes
from compressit.datasets.origin import Origin
from compressit.datasets.pixels import Pixels
from compressit.datasets.sources import Source
from compressit.datasets.specs import Inputs, as_inputs
from compressit.datasets.statistics import Covariance, Moments, covariance, moments, sampled_covariance
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import CompressitError
from compressit.seeds import Streams

Batch = tuple[InputTensors, Tensor]
_UNSAID = TaskSpec("", 1)
_STATISTICS = "the statistics of data"  # for messages
_AT_ONCE = 8192  # examples of which a part of the statistics is made


@dataclass(frozen=True)
class InputSpec:
    """How a model's inputs were made: saved in its checkpoint so that it can be fed again. A shape given as `inputs`
    stands for a TensorSpec of pixels."""

    inputs: Inputs
    scale: str  # "unit" or "standard"
    mean: tuple[float, ...] | None  # per channel, of pixels in 0..1; None for "unit"
    std: tuple[float, ...] | None
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", as_inputs(self.inputs))


class Split(ABC):
    """The examples of one split: targets `y` (N, ...) on the device, and inputs that come in batches.

    Targets are what the task takes: labels (N,) int64, numbers (N, outputs) float32, labels of pixels (N, H, W) int64.
    """

    y: Tensor
    streams: Streams

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} examples of shape {self.shape} for {self.y.device})"

    @property
    @abstractmethod
    def shape(self) -> Any:
        """Of one input: (C, H, W) of an image. Where there are several, a tuple or dict of their shapes."""

    @property
    @abstractmethod
    def repeats(self) -> bool:
        """Whether the inputs are the same in every epoch: then what is made of them serves again."""

    def batches(self, size: BatchSize, epoch: int) -> Iterator[Batch]:
        """The epoch's batches of a training, in its own order, by `in_batches`; `all`: one, in the stored order.

        Inputs (B, *shape), or a tuple or dict of them, are of the types that the data declare, augmented where they say
        so; targets are those of `y`.
        """
        return self.visit(self._places(size, epoch), epoch)

    def batches_with(
        self, values: Tensor, size: BatchSize, epoch: int
    ) -> Iterator[tuple[InputTensors, Tensor, Tensor]]:
        """As `batches`, each with its own part (B, ...) of `values` (N, ...): what was made of every example."""
        if size == "all":
            yield from ((x, y, values) for x, y in self.batches(size, epoch))
            return
        places = self._places(size, epoch)
        for at, (x, y) in zip(places, self.visit(places, epoch), strict=True):
            yield x, y, values.index_select(0, at)

    def _places(self, size: BatchSize, epoch: int) -> Sequence[Tensor]:
        """The positions of each batch of an epoch."""
        if size == "all":
            return [torch.arange(len(self), device=self.y.device)]
        return in_batches(order(len(self), self.streams, epoch, self.y.device), size)

    def ordered(self, size: int) -> Iterator[Batch]:
        """All examples in their stored order, by `in_batches`, as they are measured: never augmented."""
        return self.visit(in_batches(torch.arange(len(self), device=self.y.device), size))

    @abstractmethod
    def visit(self, batches: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        """The inputs and targets at each of `batches`: positions (B,) int64 in this split.

        `epoch`: of the training that sees them; None where they are measured.
        """

    @abstractmethod
    def tensors(self) -> Batch:
        """All inputs (N, *shape) and labels, in their stored order.

        Raises CompressitError where the inputs are not in memory.
        """

    @property
    def x(self) -> InputTensors:
        """All inputs, as `tensors` gives them."""
        return self.tensors()[0]

    def some(self, count: int) -> InputTensors:
        """The first inputs, at most `count`, as they are measured."""
        return next(self.visit([torch.arange(min(count, len(self)), device=self.y.device)]))[0]

    def moments(self) -> Moments:
        """Mean and variance of each value of the inputs, in one pass. Raises CompressitError unless they are one tensor
        of floats."""
        return moments(self._floats())

    def covariance(self) -> Covariance:
        """Mean and covariance of the flattened inputs, as a factor of it; of inputs of more than `statistics.EXACT`
        values that of as many examples, evenly spaced (files often come class by class). Raises CompressitError unless
        they are one tensor of floats."""
        if volume(self.shape) > statistics.EXACT:
            count = min(len(self), statistics.EXACT)
            spaced = torch.arange(count, device=self.y.device) * len(self) // count
            return sampled_covariance(only(next(self.visit([spaced]))[0], _STATISTICS))
        return covariance(self._mean(), len(self), self._floats)

    def _floats(self) -> Iterator[Tensor]:
        return (only(x, _STATISTICS) for x, _ in self.ordered(_AT_ONCE))

    def _mean(self) -> Tensor:
        """(D,) float64."""
        return self.moments().mean


@dataclass(frozen=True, repr=False)
class InMemory(Split):
    """Inputs (N, *shape) on the device. Without `pixels` they are what a model takes."""

    inputs: InputTensors
    y: Tensor
    streams: Streams
    pixels: Pixels | None = None  # makes of them what a model takes

    @property
    def shape(self) -> Any:
        return shapes(self.inputs)

    @property
    def repeats(self) -> bool:
        return self.pixels is None or not self.pixels.augment

    def batches(self, size: BatchSize, epoch: int) -> Iterator[Batch]:
        if size == "all" and self.pixels is None:
            return iter([(self.inputs, self.y)])  # themselves: nothing is gathered
        return super().batches(size, epoch)

    def ordered(self, size: int) -> Iterator[Batch]:
        parts = zip(*(in_batches(x, size) for x in tensors_of(self.inputs)), strict=True)
        for tensors, y in zip(parts, in_batches(self.y, size), strict=True):
            inputs = built(self.inputs, tensors)
            yield self.pixels(inputs) if self.pixels else inputs, y

    def visit(self, batches: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        for index in batches:
            inputs = picked(self.inputs, index)
            if self.pixels is not None:
                seeds = None if epoch is None else example_seeds(self.streams, epoch, index)
                inputs = self.pixels(inputs, seeds)
            yield inputs, self.y.index_select(0, index)

    def tensors(self) -> Batch:
        return self.pixels(self.inputs) if self.pixels else self.inputs, self.y

    def _mean(self) -> Tensor:
        return only(self.x, _STATISTICS).flatten(1).mean(0, dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class Sourced(Split):
    """Inputs that a source reads batch by batch: from a file, or from somebody's torch Dataset."""

    source: Source
    index: Tensor  # (N,) int64, on the CPU: which of the source's examples
    y: Tensor
    streams: Streams
    pixels: Pixels

    @property
    def shape(self) -> Any:
        return self.source.shape

    @property
    def repeats(self) -> bool:
        return not self.source.draws and not self.pixels.augment

    def visit(self, batches: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        places = list(batches)
        seeds = [] if epoch is None else [example_seeds(self.streams, epoch, at) for at in places]
        read = self.source.read(
            [self.index[at.cpu()] for at in places], [drawn.cpu() for drawn in seeds] or None
        )
        for number, (at, inputs) in enumerate(zip(places, read, strict=True)):
            drawn = seeds[number] if seeds else None
            there = each_tensor(inputs, lambda x: x.to(self.y.device))
            yield self.pixels(there, drawn), self.y.index_select(0, at)

    def tensors(self) -> Batch:
        raise CompressitError(
            f"these {len(self)} examples are read batch by batch: they are not in memory",
            "go through `.batches(size, epoch)` to train, or `.ordered(size)` to measure",
        )


@dataclass(frozen=True, repr=False)
class Relabelled:
    """Which training targets the option `labels` replaced, and by what. A random label may be the given one again."""

    replaced: Tensor  # (N,) bool, on the targets' device
    given: Tensor  # (N, ...) the targets before, on the targets' device


@dataclass(frozen=True, repr=False)
class Data:
    """The splits of one variant. `validation` and `test` are None where the data have none.

    `classes`: how many outputs the task needs, of classes, labels or values.
    """

    train: Split
    validation: Split | None
    test: Split | None
    classes: int
    contract: InputSpec
    doubts: tuple[str, ...] = ()  # what results on these data should be read with: classes that a split lacks
    task: TaskSpec = _UNSAID  # what they pose; by default a classification
    origin: Origin | None = None  # of data given from Python, for runs that load them again
    relabelled: Relabelled | None = None  # what `labels` did to the training targets; None: they are as given

    def __post_init__(self) -> None:
        if not self.task.uses:
            posed = TaskSpec(CLASSIFICATION, self.classes, self.contract.class_names)
            object.__setattr__(self, "task", posed)

    def split(self, name: str) -> Split:
        """ "train", "validation" or "test". Raises CompressitError for one that the data do not have."""
        found: Split | None = getattr(self, name)
        if found is None:
            raise CompressitError(
                f"the data have no {name} split", "cut one from the training examples: `validation: 0.1`"
                if name == "validation" else "give the dataset one, or measure on the others",
            )  # fmt: skip
        return found

    def __repr__(self) -> str:
        sizes = [f"{name}={split!r}" for name, split in self._splits().items()]
        return f"Data({', '.join(sizes)}, classes={self.classes}, scale={self.contract.scale!r})"

    def _splits(self) -> dict[str, Any]:
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    @property
    def held(self) -> tuple[object, ...]:
        """What the splits hold, in order: tensors in memory, and sources."""
        splits = (self.train, self.validation, self.test)
        parts = ("inputs", "source", "y")
        return tuple(getattr(split, part, None) for split in splits for part in parts)

    def is_as_given(self) -> bool:
        """Whether the splits are still those that were made of the origin."""
        return self.origin is not None and all(map(operator.is_, self.held, self.origin.held))

    def with_streams(self, streams: Streams) -> Data:
        """The same tensors, shuffled by another stage's streams."""
        return replace(self, **{n: replace(split, streams=streams) for n, split in self._splits().items()})


def order(count: int, streams: Streams, epoch: int, device: torch.device | str = "cpu") -> Tensor:
    """The permutation (count,) int64 in which an epoch visits its examples, drawn on the CPU everywhere."""
    return torch.randperm(count, generator=streams.generator("order", epoch)).to(device)


def in_batches(values: Tensor, size: BatchSize) -> tuple[Tensor, ...]:
    """`values` (N, ...) in parts of `size` along the first dimension, the last one shorter; a last one of one joins
    the part before it (`batching`). Every loop over batches goes through here."""
    sizes = batch_sizes(len(values), size)
    return values.split(sizes) if len(sizes) != 1 else (values,)
