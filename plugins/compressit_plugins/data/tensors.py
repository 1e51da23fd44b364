"""`data.tensors`: arrays in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compressit import (
    CompressitError,
    DataConfig,
    Dataset,
    InputPath,
    Inputs,
    TaskSpec,
    TensorSpec,
    hookimpl,
    opened,
    usual_task,
)
from compressit_plugins.data.array_files import Header, headers, whole_numbers

if TYPE_CHECKING:
    from compressit import DataContext, Sources

MOST_CLASSES = 1_000_000  # where `classes` does not say how many
CLASSIFICATION = "task.classification"
SPLITS = ("train", "test", "validation")
# of each task's targets: numbers of dimensions, whether whole, in words
_FORMS: dict[str, tuple[tuple[int, ...], bool, str]] = {
    CLASSIFICATION: ((1,), True, "whole numbers (examples,)"),
    "task.multilabel": ((2,), False, "0 or 1, (examples, labels)"),
    "task.regression": ((1, 2), False, "numbers (examples,) or (examples, outputs)"),
    "task.segmentation": ((3,), True, "whole numbers (examples, height, width)"),
}
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class TensorsConfig(DataConfig):
    """Options of arrays in a file."""

    file: InputPath = Field(
        description="an .npz or .safetensors file with `train_x`, `train_y` and perhaps `test_x`, `test_y`, "
        "`validation_x`, `validation_y`; relative to the recipe"
    )
    inputs: tuple[Name, ...] | dict[Name, Name] | None = Field(
        default=None,
        description="several inputs: `[image, extra]` reads `train_image` and `train_extra`, which the model takes in "
        "this order; `{ids: tokens}` reads `train_tokens` as the model's `ids`; null: one, `train_x`",
    )
    ranges: dict[Name, tuple[float | None, float | None]] = Field(
        default={},
        description="the least and the greatest value of arrays, as `{x: [-3, 3]}`, null where there is no bound: "
        "floats are in 0..1 unless this says otherwise, and whole numbers need it; bytes without it are pixels, with "
        "it whole numbers",
    )
    classes: int | None = Field(
        default=None,
        ge=2,
        description="number of classes; null: the highest label and one more. A segmentation needs it",
    )
    poses: Literal["classification", "multilabel", "regression", "segmentation"] | None = Field(
        default=None,
        description="the task; null: what `train_y` looks like: floats are a regression's, whole numbers (N,) classes, "
        "(N, labels) those of several labels, 0 or 1, (N, height, width) classes of pixels",
    )


class Tensors(Dataset[TensorsConfig]):
    """Arrays of inputs and targets in one .npz or .safetensors file: bytes, floats, or whole numbers."""

    name = "data.tensors"

    @property
    def inputs(self) -> Inputs:
        given = self.config.inputs
        if given is None:
            return self._spec("x")
        if isinstance(given, dict):
            return {parameter: self._spec(name) for parameter, name in given.items()}
        return tuple(map(self._spec, given))

    @property
    def classes(self) -> int:
        """How many outputs the task needs."""
        return self.task.outputs

    def _counted(self) -> int:
        """The number of classes. Raises CompressitError for labels that do not count from 0."""
        highest = max(high for _, high in self._ranges.values())
        most = MOST_CLASSES if self.config.classes is None else self.config.classes
        for split, (low, high) in self._ranges.items():
            if low < 0 or high >= most:
                told = "there are too many" if self.config.classes is None else f"`classes` is {most}"
                raise CompressitError(
                    f"{self._path}: the labels {split}_y go from {low} to {high}"
                    + (f", and {told}" if low >= 0 else ""),
                    "labels count from 0, one for each class",
                )
        return self.config.classes if self.config.classes is not None else max(highest + 1, 2)

    @property
    def task(self) -> TaskSpec:
        """Raises CompressitError for targets that this task cannot have, as far as their header tells."""
        targets, poses, classes = self._arrays["train_y"], self.config.poses, self.config.classes
        uses = f"task.{poses}" if poses else usual_task(targets.is_whole, targets.shape)
        dims, whole, form = _FORMS[uses]
        if len(targets.shape) not in dims or (whole and not targets.is_whole):
            raise CompressitError(
                f"{self._path}: train_y is {targets.kind} of shape {targets.shape}, and targets of {uses} are {form}",
                "save them in this form, or set `poses`",
            )
        if uses == CLASSIFICATION:
            return TaskSpec(uses, self._counted())
        if uses != "task.segmentation":
            return TaskSpec(uses, (*targets.shape, 1)[1])
        if classes is None:
            raise CompressitError(
                f"{self._path}: the pixels' labels are not counted", "set `classes`: how many there are"
            )
        return TaskSpec(uses, classes)

    @property
    def train_size(self) -> int:
        return self._arrays["train_y"].shape[0]

    @property
    def has_validation(self) -> bool:
        return "validation_y" in self._arrays

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        try:
            with opened(self._path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CompressitError(f"{self._path} cannot be read: {error.strerror}") from error

    def doubts(self) -> Sequence[str]:
        """No test arrays, arrays of other names, images that seem to have their channels last."""
        told: list[str] = []
        if "test_y" not in self._arrays:
            inputs = ", ".join(f"`test_{name}`" for name in self._names)
            told.append(f"there are no test arrays: {inputs} and `test_y`")
        known = {f"{split}_{part}" for split in SPLITS for part in (*self._names, "y")}
        if others := sorted(set(self._arrays) - known):
            told.append(
                f"arrays that nothing reads: {', '.join(others[:5])}{', …' if len(others) > 5 else ''}"
            )
        for shape in (self._arrays[f"train_{name}"].shape[1:] for name in self._names):
            if len(shape) == 3 and shape[0] > 4 >= shape[2]:
                told.append(f"inputs are {shape}: channels come first, as (channels, height, width)")
        return told

    def load(self, ctx: DataContext) -> Sources:
        """Inputs as they are, floats as float32; targets too. Raises CompressitError for a damaged file."""
        from compressit import Sources
        from compressit_plugins.data.tensor_files import read

        found = {
            split: read(self._path, split, self.config.inputs, self._arrays)
            for split in SPLITS
            if f"{split}_y" in self._arrays
        }
        return Sources(found["train"], found.get("test"), found.get("validation"))

    @property
    def _path(self) -> Path:
        return Path(self.config.file)

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the arrays of inputs, without the split."""
        given = self.config.inputs
        return ("x",) if given is None else tuple(given.values() if isinstance(given, dict) else given)

    def _spec(self, name: str) -> TensorSpec:
        array, bounds = self._arrays[f"train_{name}"], self.config.ranges.get(name)
        if array.kind == "BOOL":
            return TensorSpec(array.shape[1:], "bool")
        if array.is_whole and bounds is None and array.kind != "U8":
            raise CompressitError(
                f"{self._path}: train_{name} is {array.kind}: whole numbers need their range",
                f"say it with `ranges: {{{name}: [0, …]}}`, or save bytes (uint8) or floats",
            )
        whole = array.is_whole and bounds is not None
        return TensorSpec(array.shape[1:], "int64" if whole else "float32", *(bounds or (0.0, 1.0)))

    @cached_property
    def _arrays(self) -> Mapping[str, Header]:
        """Raises CompressitError for arrays that are no inputs and labels."""
        found = headers(self._path)
        several = self.config.inputs is not None
        if idle := [name for name in self.config.ranges if name not in self._names]:
            raise CompressitError(
                f"`ranges` names '{idle[0]}', and no input is called so", f"known: {self._names}"
            )
        for split in SPLITS:
            if split == "train" or any(f"{split}_{part}" in found for part in (*self._names, "y")):
                for name in self._names:
                    _check(self._path, split, name, found, several)
        return found

    @cached_property
    def _ranges(self) -> Mapping[str, tuple[int, int]]:
        """The lowest and the highest label of each split."""
        found: dict[str, tuple[int, int]] = {}
        for split in SPLITS:
            if (name := f"{split}_y") in self._arrays:
                labels = whole_numbers(self._path, name, self._arrays[name])
                found[split] = min(labels), max(labels)
        return found


def _check(path: Path, split: str, name: str, found: Mapping[str, Header], several: bool) -> None:
    names = f"{split}_{name}", f"{split}_y"
    if missing := [name for name in names if name not in found]:
        there = ", ".join(sorted(found)[:10]) or "nothing"
        raise CompressitError(
            f"{path} has no {' and no '.join(missing)}", f"it has {there}: rename the arrays"
        )
    inputs, labels = (found[name] for name in names)
    fault = None
    first = found["train_y"]
    if (labels.shape[1:], labels.is_whole) != (first.shape[1:], first.is_whole):
        fault = (
            f"{names[1]} is {labels.kind} of shape {labels.shape}, and train_y {first.kind} of {first.shape}"
        )
    elif inputs.shape[:1] != labels.shape[:1] or not labels.shape or not labels.shape[0]:
        fault = f"{names[0]} has the shape {inputs.shape}, and {names[1]} {labels.shape}"
    elif len(inputs.shape) < 2 and not several:
        fault = f"{names[0]} has the shape {inputs.shape}: inputs are (examples, …), as (N, channels, height, width)"
    elif inputs.shape[1:] != (first := found[f"train_{name}"]).shape[1:]:
        fault = f"{names[0]} has the shape {inputs.shape}, and train_{name} {first.shape}"
    if fault:
        raise CompressitError(f"{path}: {fault}", "save the arrays in this form")


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Tensors]
