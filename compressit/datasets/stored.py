"""Examples in a file of the cache: read once, then in any order, without filling the memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from compressit.datasets.sources import Source
from compressit.datasets.streamed import RESIZE, items, several_shapes
from compressit.errors import CompressitError
from compressit.files.lock import held
from compressit.files.writing import replacing

AT_ONCE = 64  # examples that are read and written together


@dataclass(frozen=True)
class Stored(Source):
    """Inputs (N, *shape), uint8 or float32, one after another in a file."""

    file: Path
    targets: Tensor
    like: Tensor  # (0, *shape), of the inputs' type

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.like.shape[1:])

    def read(self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """Raises CompressitError for a file that somebody shortened or removed. Nothing is drawn: `seeds` are idle.

        The file is read, not mapped: what was read does not count as this process's memory.
        """
        size = math.prod(self.shape) * self.like.element_size()
        try:
            with self.file.open("rb", buffering=0) as file:
                for batch in batches:
                    inputs = self.like.new_empty(len(batch), *self.shape)
                    room = memoryview(inputs.numpy()).cast("B")  # pyright: ignore[reportArgumentType]
                    for row, index in enumerate(batch.tolist()):
                        place = room[row * size : (row + 1) * size]
                        if os.preadv(file.fileno(), [place], index * size) != size:
                            raise OSError("it is shorter than it was")
                    yield inputs
        except OSError as error:
            raise CompressitError(
                f"{self.file}: {error.strerror or error}", "start again: the data will be read anew"
            ) from error


def stored(
    dataset: Dataset[Any], folder: Path, name: str, workers: int, announce: Callable[[str], None]
) -> Stored:
    """The examples of a torch Dataset in `folder`, which is named after their content: read once, by `workers`
    processes.

    Raises CompressitError for an example that cannot be read, for inputs of several shapes, and for inputs that are
    not uint8.
    """
    inputs, labels = folder / "inputs", folder / "labels.safetensors"
    with held(folder / ".lock", announce):
        if not labels.exists():  # written last
            count = len(dataset)  # type: ignore[arg-type]
            announce(f"{name}: reading {count:,} examples, once")
            with replacing(inputs) as unfinished:
                targets, like = _write(dataset, count, unfinished, name, workers)
            with replacing(labels) as unfinished:
                save_file({"targets": targets, "like": like}, unfinished)
    known = load_file(labels)
    return Stored(inputs, known["targets"], known["like"])


def _write(dataset: Dataset[Any], count: int, target: Path, name: str, workers: int) -> tuple[Tensor, Tensor]:
    """Writes the inputs; returns the labels (N,) int64 and inputs (0, *shape) of the same type."""
    starts = range(0, count, AT_ONCE)
    places = [[(index, 0) for index in range(at, min(at + AT_ONCE, count))] for at in starts]
    labels: list[int] = []
    like: Tensor | None = None
    with target.open("wb") as file:
        for inputs, more in items(dataset, places, workers, name):
            like = inputs[:0].clone() if like is None else like
            if inputs.shape[1:] != like.shape[1:]:
                raise CompressitError(several_shapes(name, inputs, tuple(like.shape[1:])), RESIZE)
            if inputs.dtype != like.dtype:
                raise CompressitError(
                    f"{name} has {like.dtype} and {inputs.dtype} inputs", "let all be of one type"
                )
            file.write(inputs.numpy().tobytes())
            labels += more
    assert like is not None, "a Dataset of no examples was refused"
    return torch.tensor(labels), like
