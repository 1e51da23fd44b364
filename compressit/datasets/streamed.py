"""Examples of somebody's torch Dataset, read by the processes of a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compressit.datasets.sources import SkipExample, Source
from compressit.errors import CompressitError, told
from compressit.seeds import seeded


@dataclass(frozen=True)
class Fault:
    """What is wrong with an example."""

    text: str
    hint: str | None = None
    skipped: bool = False  # its dataset wants it left out


Item = tuple[Tensor, int] | Fault
Place = tuple[int, int | None]  # the index of an example, and the seed that its transforms draw from


@dataclass(frozen=True)
class Streamed(Source):
    """Training examples that are read anew each time, for their random transforms."""

    name: str  # of the dataset, for messages
    train: Dataset[Any]
    plain: Source  # the same examples without random transforms
    workers: int = 0  # processes that read; 0: this one

    @property
    def targets(self) -> Tensor:  # type: ignore[override]
        return self.plain.targets

    @property
    def shape(self) -> tuple[int, ...]:
        return self.plain.shape

    def read(self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """Raises CompressitError for an example that cannot be read, by its number, and for a process that died."""
        if seeds is None:
            yield from self.plain.read(batches)
            return
        places = [
            list(zip(batch.tolist(), drawn.tolist(), strict=True))
            for batch, drawn in zip(batches, seeds, strict=True)
        ]
        for batch in items(self.train, places, self.workers):
            yield torch.stack([x for x, _ in sound(batch, self.name, self.shape)])


def items(
    dataset: Dataset[Any], places: Sequence[list[Place]], workers: int
) -> Iterator[list[tuple[int, Item]]]:
    """The examples at each of `places`, with their indices, batch by batch, in this order."""
    loader: DataLoader[Any] = DataLoader(
        _Seeded(dataset),
        batch_sampler=places,
        num_workers=workers,
        collate_fn=list,  # type: ignore[arg-type]
    )
    try:
        yield from loader
    except RuntimeError as error:  # a worker was killed, or shared memory is full
        raise CompressitError(
            f"a process that reads the data ended: {error}",
            "often there is too little memory, or /dev/shm is small: set `workers: 0` for the data",
        ) from error


def sound(
    batch: Iterable[tuple[int, Item]], name: str, shape: tuple[int, ...] | None = None
) -> list[tuple[Tensor, int]]:
    """The examples of a batch. Raises CompressitError for one that is none, or of another shape than `shape`."""
    found: list[tuple[Tensor, int]] = []
    for index, item in batch:
        if isinstance(item, Fault):
            hint = (
                "read all examples, or transform them without random numbers" if item.skipped else item.hint
            )
            told = "cannot be left out" if item.skipped else "cannot be read"
            raise CompressitError(f"{name}: example {index} {told}: {item.text}", hint)
        shape = shape or tuple(item[0].shape)
        if tuple(item[0].shape) != shape:
            raise CompressitError(
                f"{name}: example {index} has the shape {tuple(item[0].shape)}, not {shape}",
                "all inputs must have one shape: let the dataset resize them",
            )
        found.append(item)
    return found


def skipped(item: Item) -> TypeGuard[Fault]:
    """Whether its dataset wants this example left out."""
    return isinstance(item, Fault) and item.skipped


class _Seeded(Dataset[tuple[int, Item]]):
    """A Dataset whose every item is drawn from a seed of its own, whichever process reads it."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, place: Place) -> tuple[int, Item]:
        index, seed = place
        try:
            with seeded(abs(seed or 0) >> 1):
                item = _item(self._dataset[index])
                return index, Fault(item) if isinstance(item, str) else item
        except SkipExample as reason:
            return index, Fault(str(reason), skipped=True)
        except CompressitError as error:
            return index, Fault(error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - somebody's code, and a file that may be anything
            return index, Fault(told(error))


def _item(item: object) -> tuple[Tensor, int] | str:
    """An example, or what is wrong with it."""
    if not (isinstance(item, tuple | list) and len(item) == 2):
        return f"it is a {type(item).__name__}, not a pair of an input and its label"
    x, y = item
    if not isinstance(x, Tensor) or not (x.dtype == torch.uint8 or x.is_floating_point()):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        return f"its input is a {kind}, not a uint8 or float tensor: end its transforms with ToTensor()"
    if x.is_floating_point() and not (x.numel() and float(x.min()) >= 0 and float(x.max()) <= 1):
        low, high = float(x.min()), float(x.max())
        return (
            f"its input goes from {low:g} to {high:g}, not from 0 to 1: leave scaling to the option `scale`"
        )
    try:
        return (x if x.dtype == torch.uint8 else x.detach().float()), int(y)
    except (TypeError, ValueError, RuntimeError):
        return f"its label is {y!r}, not a whole number"
