"""Examples of somebody's torch Dataset, read by the processes of a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compressit.datasets.sources import SkipExample, Source
from compressit.errors import CompressitError, told
from compressit.seeds import draw_from, seeded

Example = tuple[Tensor, Tensor]
Place = tuple[int, int]  # the index of an example, and the seed that its transforms draw from
NO_SKIP = "examples with random transforms are told by their numbers: read all of them"
_AGAIN = "make it readable and start again: a training goes on from its last save"
RESIZE = "all inputs must have one shape: let the dataset resize them"


@dataclass(frozen=True)
class Fault:
    """What is wrong with an example."""

    text: str
    hint: str | None = None


@dataclass(frozen=True)
class Read:
    """A batch: inputs (B, *shape), None where every example was left out, and targets (B, ...)."""

    inputs: Tensor | None
    targets: Tensor
    left_out: list[str]  # why each example that is missing is (SkipExample)


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

    def with_targets(self, targets: Tensor) -> Streamed:
        return replace(self, plain=self.plain.with_targets(targets))

    def read(self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """Raises CompressitError for an example that cannot be read, by its number, and for a process that died."""
        if seeds is None:
            yield from self.plain.read(batches)
            return
        places = [
            list(zip(batch.tolist(), drawn.tolist(), strict=True))
            for batch, drawn in zip(batches, seeds, strict=True)
        ]
        for batch in items(self.train, places, self.workers, self.name):
            if batch.left_out or batch.inputs is None:
                raise CompressitError(
                    f"{self.name}: an example cannot be left out: {batch.left_out[0]}", NO_SKIP
                )
            if tuple(batch.inputs.shape[1:]) != self.shape:
                raise CompressitError(several_shapes(self.name, batch.inputs, self.shape), RESIZE)
            yield batch.inputs


def items(dataset: Dataset[Any], places: Sequence[list[Place]], workers: int, name: str) -> Iterator[Read]:
    """The examples at each of `places`, in this order.

    Global random numbers go on afterwards as if nothing had been drawn. Raises CompressitError for an example that
    cannot be read or is none, and for a process that died.
    """
    if workers:
        read = _by_processes(_Batches(dataset), places, workers)
    else:
        read = _here(_Batches(dataset), places)
    for batch in read:
        if isinstance(batch, Fault):
            raise CompressitError(f"{name}: {batch.text}", batch.hint)
        yield batch


def several_shapes(name: str, inputs: Tensor, shape: tuple[int, ...]) -> str:
    """What is said of inputs (B, *other shape) among those of `shape`."""
    return f"{name} has inputs of the shapes {shape} and {tuple(inputs.shape[1:])}"


def _here(dataset: _Batches, places: Sequence[list[Place]]) -> Iterator[Read | Fault]:
    for place in places:
        with seeded(0):
            batch = dataset.__getitems__(place)
        yield batch


def _by_processes(dataset: _Batches, places: Sequence[list[Place]], workers: int) -> Iterator[Read | Fault]:
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=_shared,  # pyright: ignore[reportArgumentType] - `__getitems__` gives no list
        generator=torch.Generator(),  # else it takes a number of the global one
    )
    try:
        yield from loader
    except RuntimeError as error:  # a worker was killed
        raise CompressitError(
            f"a process that reads the data ended: {error}",
            "often there is too little memory: set `workers: 0` for the data",
        ) from error


def _shared(batch: Read | Fault) -> Read | Fault:
    """The batch in the memory that processes share.

    torch would put it there later, in a thread whose errors nobody hears: where that memory is full, the run would wait
    for a batch that never comes.
    """
    if isinstance(batch, Read) and batch.inputs is not None:
        try:
            batch.inputs.share_memory_()
        except RuntimeError as error:
            return Fault(
                f"a batch does not fit into the memory that processes share (/dev/shm): {error}",
                "make it larger (`docker run --shm-size=1g`), or set `workers: 0` for the data",
            )
    return batch


class _Batches(Dataset[Any]):
    """Whole batches of a Dataset, every item drawn from a seed of its own, whichever process reads it."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitems__(self, places: Sequence[Place]) -> Read | Fault:
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        left_out: list[str] = []
        for index, seed in places:
            draw_from(abs(seed) >> 1)
            try:
                item = _item(self._dataset[index])
            except SkipExample as reason:
                left_out.append(str(reason))
                continue
            except CompressitError as error:
                return Fault(f"example {index} cannot be read: {error.message}", error.hint)
            except OSError as error:  # it vanished, say
                return Fault(f"example {index} cannot be read: {told(error)}", _AGAIN)
            except Exception as error:  # noqa: BLE001 - somebody's code, and a file that may be anything
                return Fault(f"example {index} cannot be read: {told(error)}")
            if not isinstance(item, str) and inputs:
                item = _like((inputs[0], targets[0]), item)
            if isinstance(item, str):
                return Fault(f"example {index}: {item}")
            inputs.append(item[0])
            targets.append(item[1])
        if not inputs:
            return Read(None, torch.empty(0), left_out)
        return Read(torch.stack(inputs), torch.stack(targets), left_out)


def _like(first: Example, item: Example) -> Example | str:
    x, y = item
    if x.shape != first[0].shape:
        return f"it has the shape {tuple(x.shape)}, not {tuple(first[0].shape)}: {RESIZE}"
    if (y.shape, y.dtype) != (first[1].shape, first[1].dtype):
        theirs = f"{first[1].dtype} of shape {tuple(first[1].shape)}"
        return f"its target is {y.dtype} of shape {tuple(y.shape)}, that of those before it {theirs}"
    return item if x.dtype == first[0].dtype else f"it is {x.dtype}, those before it {first[0].dtype}"


def _item(item: object) -> Example | str:
    """An example, or what is wrong with it."""
    if not (isinstance(item, tuple | list) and len(item) == 2):
        return f"it is a {type(item).__name__}, not a pair of an input and its target"
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
        target = torch.as_tensor(y).detach()
    except (TypeError, ValueError, RuntimeError):
        return f"its target is {y!r}, not a number or an array of numbers"
    return (x if x.dtype == torch.uint8 else x.detach().float()), target
