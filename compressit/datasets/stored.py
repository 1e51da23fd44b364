"""Examples in a file of the cache: read once, then in any order, without filling the memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from compressit.datasets.sources import Source
from compressit.datasets.specs import TensorSpec
from compressit.datasets.streamed import RESIZE, in_a_row, in_order, items, only_tensor, several_shapes
from compressit.errors import CompressitError
from compressit.files.lock import held
from compressit.files.sealed import canonical
from compressit.files.writing import replacing


@dataclass(frozen=True)
class Stored(Source):
    """Inputs (N, *shape), uint8 or float32, one after another in a file."""

    file: Path
    targets: Tensor
    like: Tensor  # pyright: ignore[reportIncompatibleVariableOverride] - (0, *shape)
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Of one example in the file, in bytes."""
        return math.prod(self.shape) * self.like.element_size()

    def with_targets(self, targets: Tensor) -> Stored:
        return replace(self, targets=targets)

    def read(self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None) -> Iterator[Tensor]:
        """Raises CompressitError for a file that somebody shortened or removed. Nothing is drawn: `seeds` are idle.

        The file is read, not mapped: what was read does not count as this process's memory.
        """
        size = self.size
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
    dataset: Dataset[Any],
    folder: Path,
    name: str,
    workers: int,
    announce: Callable[[str], None],
    unchanged: Callable[[], None] = lambda: None,
    inputs: TensorSpec | None = None,
) -> Stored:
    """The examples of a torch Dataset, one tensor of floats or bytes each, as `inputs` says, in `folder`, which is
    named after their content: read once, by `workers` processes, and again where somebody removed or cut the file. Then
    `unchanged` is called, which raises where the content is no longer what the folder is named after.

    Raises CompressitError for an example that cannot be read, for inputs of several shapes or types, and where every
    example asks to be left out (SkipExample).
    """
    values, labels = folder / "inputs", folder / "labels.safetensors"
    with held(folder / ".lock", announce):
        if (found := _found(values, labels)) is not None:
            return found
        count = len(dataset)  # type: ignore[arg-type]
        announce(f"{name}: reading {count:,} examples, once")
        with replacing(values) as unfinished:
            targets, like, left_out = _write(dataset, count, unfinished, name, workers, inputs)
            unchanged()
        with replacing(labels) as unfinished:  # last: it says that all is there
            save_file({"targets": targets, "like": like}, unfinished, {"left_out": canonical(left_out)})
        return Stored(values, targets, like, tuple(left_out))


def _found(values: Path, labels: Path) -> Stored | None:
    """What was read before; None if it is not there, or not whole."""
    try:
        with safe_open(labels, "pt") as known:
            left_out = tuple(json.loads(known.metadata()["left_out"]))
            found = Stored(values, known.get_tensor("targets"), known.get_tensor("like"), left_out)
        whole = values.stat().st_size == len(found.targets) * found.size
    except (OSError, SafetensorError):
        return None
    return found if whole else None


def _write(
    dataset: Dataset[Any], count: int, target: Path, name: str, workers: int, declared: TensorSpec | None
) -> tuple[Tensor, Tensor, list[str]]:
    """Writes the inputs; returns the targets (N, ...), inputs (0, *shape) of the same type, and why each example that
    was left out was."""
    targets: list[Tensor] = []
    left_out: list[str] = []
    like: Tensor | None = None
    with target.open("wb") as file:
        for batch in items(dataset, in_order(count), workers, name, declared):
            left_out += batch.left_out
            if batch.inputs is None:
                continue
            inputs = only_tensor(name, batch.inputs)
            like = inputs[:0].clone() if like is None else like
            if inputs.shape[1:] != like.shape[1:]:
                raise CompressitError(several_shapes(name, inputs, tuple(like.shape[1:])), RESIZE)
            if inputs.dtype != like.dtype:
                raise CompressitError(
                    f"{name} has {like.dtype} and {inputs.dtype} inputs", "let all be of one type"
                )
            file.write(inputs.numpy().tobytes())
            targets.append(batch.targets)
    if like is None:
        raise CompressitError(f"{name}: none of the {count:,} examples can be read: {left_out[0]}, …")
    return in_a_row(name, targets), like, left_out
