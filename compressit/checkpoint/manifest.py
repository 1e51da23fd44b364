"""A checkpoint's manifest: one canonical JSON entry in the safetensors header. Does not import torch.

The entry contains its own sha256, so a changed byte is detected. Even with a forged sha256, a file can only name
installed plugins and set plain numbers (see `edits`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    model_validator,
)

from compressit.datasets.options import MOST_INPUTS
from compressit.datasets.specs import Inputs, Kind, as_inputs, from_json
from compressit.errors import CompressitError
from compressit.files.sealed import canonical, strict

FORMAT = 1
MOST_TENSORS = 64
"""Tensors that one input may have."""

MOST_ERRORS = 1000
"""Validation errors that are looked at, to report the first: each takes a kilobyte."""

MOST_VALUES = 2**20
"""Values in one JSON text: each takes up to 150 bytes while parsing."""

T = TypeVar("T")
Row = Annotated[tuple[T, ...], Field(fail_fast=True)]
"""Validation stops at the first wrong value: a file may contain millions."""
Shape = Annotated[Row[Annotated[int, Field(ge=0, lt=2**63)]], Field(max_length=64)]


def affordable(*shapes: tuple[int, ...]) -> None:
    """Raises ValueError if an input of tensors of these shapes (without the batch) has too many values."""
    count = sum(math.prod(max(1, size) for size in shape) for shape in shapes)
    if count > MOST_INPUTS:
        raise ValueError(f"an input of {count} values; at most {MOST_INPUTS} are allowed")


@dataclass(frozen=True)
class Architecture:
    """A registered builder with its options, from a recipe's `model` and the data. A shape given as `inputs` stands for
    a TensorSpec of pixels."""

    name: str  # of the Model plugin
    config: Mapping[str, Any]
    inputs: Inputs
    outputs: int
    edited: bool = False  # whether the file's edits or shapes change the built model

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", as_inputs(self.inputs))


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tensor(_Entry):
    """A tensor of an input (`compressit.datasets.specs.TensorSpec`)."""

    shape: Shape  # without the batch dimension
    dtype: Kind
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _ordered(self) -> Tensor:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        return self


def _affordable(tensors: Any) -> Any:
    several = (
        tensors.values()
        if isinstance(tensors, dict)
        else tensors
        if isinstance(tensors, tuple)
        else [tensors]
    )
    affordable(*(tensor.shape for tensor in several))
    return tensors


def _form(told: Any) -> str:
    """Which of the three forms of inputs JSON values have: a tensor is told by its shape, which is a list."""
    if isinstance(told, Mapping):
        return "one" if isinstance(told.get("shape"), list | tuple) else "named"
    return "one" if isinstance(told, Tensor) else "several"


Names = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Tensors = Annotated[
    Annotated[Tensor, Tag("one")]
    | Annotated[Row[Tensor], Field(min_length=1, max_length=MOST_TENSORS), Tag("several")]
    | Annotated[dict[Names, Tensor], Field(min_length=1, max_length=MOST_TENSORS), Tag("named")],
    Discriminator(_form),
    AfterValidator(_affordable),
]
"""What `specs.to_json` makes of inputs."""


class Builder(_Entry):
    """The Model plugin that builds the network before the edits."""

    name: str
    config: dict[str, JsonValue]
    inputs: Tensors
    outputs: int = Field(ge=0)
    owner: str  # "compressit 0.1.0" or the name of a local file, for the error message if it is missing


class Prepared(_Entry):
    """How the inputs were prepared (`compressit.datasets.splits.InputSpec`)."""

    inputs: Tensors
    scale: Literal["unit", "standard"]  # messages may advise it, so no arbitrary text from a file
    mean: Row[float] | None  # per channel, of pixels in 0..1
    std: Row[float] | None
    class_names: Row[str]


class Posed(_Entry):
    """What the model was made for (`compressit.datasets.task_spec.TaskSpec`)."""

    uses: str
    outputs: int = Field(ge=1)
    names: Row[str]
    options: dict[str, JsonValue]


class SetEdit(_Entry):
    """Numbers of the submodule `at` that differ from the builder's. Tuples are stored as lists."""

    do: Literal["set"] = "set"
    at: str  # path of the submodule, "" for the model itself
    attrs: dict[str, JsonValue]


class ReplaceEdit(_Entry):
    """The submodule `at` is replaced by one of a registered type."""

    do: Literal["replace"] = "replace"
    at: str
    type: str  # name of a `ModuleType`
    args: dict[str, JsonValue]


class Probe(_Entry):
    """Some outputs for a fixed input, to check that the model computes the same elsewhere."""

    dtype: str  # of the inputs that are floats, as the network's: "float32", "bfloat16" …
    output_shape: Shape  # of the first output tensor, batch included
    values: Row[float | None]  # at most 64, evenly spread over that tensor; None: not finite
    tolerance: float = Field(gt=0, lt=1)  # fraction of the largest value
    shapes: Annotated[Row[Shape], Field(max_length=MOST_TENSORS)] | None = (
        None  # of a smaller input, if the model's
    )
    # own exceeds the limits: of each of its tensors


class Manifest(_Entry):
    """Everything except the tensors. Metrics that are not finite are None."""

    format: Literal[1] = FORMAT
    model: Builder | None  # None: saved without a registered builder; can only be loaded into a given module
    input: Prepared | None
    task: Posed | None = None  # None in older files, and where nobody said
    edits: Row[Annotated[SetEdit | ReplaceEdit, Field(discriminator="do")]] = ()
    layer_owners: dict[str, str] = {}  # of the types in `edits`, like Builder's `owner`
    reshaped: bool = False  # some tensor's shape differs from the builder's
    compact: dict[str, Shape] = {}  # shapes of the tensors stored as mask and values, see `tensors`
    tied: Row[tuple[str, str]] = ()  # (name in the file, another name of the same tensor)
    probe: Probe | None = None
    lineage: Row[dict[str, JsonValue]] = ()
    metrics: dict[str, float | None] = {}
    parameters: int = Field(0, ge=0)  # values in all parameters, counting tied ones once
    tensors_sha256: str  # see `header.tensors_digest`
    versions: dict[str, str]

    @property
    def inputs(self) -> Inputs | None:
        """What the model takes, if known."""
        known = self.model or self.input
        return from_json(known.model_dump(mode="json")["inputs"]) if known else None

    @staticmethod
    def of(**fields: Any) -> Manifest:
        """Makes a manifest from plain values (tuples count as lists).

        Raises CompressitError for values that JSON cannot hold.
        """
        try:
            metrics = {name: _finite(value) for name, value in fields.get("metrics", {}).items()}
            return _validated(canonical({**fields, "metrics": metrics}))
        except (TypeError, ValueError) as error:
            raise CompressitError(f"a checkpoint cannot store this: {error}") from error

    def updated(self, **fields: Any) -> Manifest:
        """A copy with these fields replaced (`lineage`, `metrics` …)."""
        return Manifest.of(**{**self.model_dump(mode="json"), **fields})


def encode(manifest: Manifest) -> str:
    """Canonical JSON (sorted keys, no spaces, ASCII), with the sha256 of the rest as a field of its own."""
    plain = manifest.model_dump(mode="json")
    return canonical({**plain, "sha256": _digest(canonical(plain))})


def decode(text: str) -> Manifest:
    """Reads what `encode` wrote.

    Raises CompressitError if the text is not JSON, has an unknown format, was changed, or has invalid fields.
    """
    told = strict_json(text, "its metadata")
    if not isinstance(told, dict):
        raise CompressitError("its metadata is not a JSON object")
    version = told.get("format")
    if type(version) is not int or version != FORMAT:  # True is an int too
        newer = type(version) is int and version > FORMAT
        raise CompressitError(
            f"its format is {version!r}; this compressit reads format {FORMAT}",
            "a newer compressit wrote it: upgrade with `pip install -U compressit`"
            if newer
            else "the file is damaged: get it again",
        )
    digest = told.pop("sha256", None)
    try:
        rest = canonical(told)
        del told  # frees memory: it takes many times the size of the text, which is parsed again
        if digest != _digest(rest):
            raise CompressitError(
                "its metadata was changed after saving: the digest does not match", "get the file again"
            )
        return _validated(rest)
    except (ValueError, RecursionError) as error:
        raise CompressitError(f"its metadata is malformed: {error}") from error


def strict_json(text: str | bytes, what: str) -> Any:
    """Parses UTF-8 JSON without repeated keys, NaN or Infinity, and with at most MOST_VALUES values.

    Raises CompressitError; `what` names the text in its message.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text  # json would also accept UTF-16 and UTF-32
        if text.count(",") > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values")
        return strict(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise CompressitError(f"{what} is not valid JSON: {error}") from error


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _validated(text: str) -> Manifest:
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(first_of(error)) from error


def first_of(error: ValidationError, whole: str = "it") -> str:
    """The first error and its location."""
    if error.error_count() > MOST_ERRORS:
        return f"{whole}: {error.error_count()} values are wrong"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
