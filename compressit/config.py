"""The base class of plugin options, and the field types for references to models and for paths."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_serializer
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError


class Config(BaseModel):
    """Options of a plugin: frozen, no unknown keys, every field with a `description`."""

    # defer_build: a command builds validators only for the plugins that it uses
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def needs_validation(self) -> tuple[str, ...]:
        """Names of the options set that need a validation split. A recipe without a split is then rejected."""
        return ()


class NoOptions(Config):
    """For plugins that take no options."""


@dataclass(frozen=True)
class ModelRefMarker:
    """Marks a string field as the name of a model: an edge of the job graph."""


ModelRef = Annotated[str, ModelRefMarker()]
"""A model: a stage's name (for a repeated stage, its last round), `init`, `previous` (the model that the stage gets),
`original` (the dense parent) or the path of a checkpoint, ending in `.safetensors`."""


class ModelUse(Config):
    """A model plugin with its options, as the value of an option: a network that a stage builds (`ctx.net`).

    The plugin and its options are checked where those of the stage are, in a recipe with their places; then all
    defaults are filled in and paths are absolute.
    """

    uses: str = Field(description="name of a model plugin")
    with_: dict[str, Any] = Field({}, alias="with", description="the model's options")

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {"uses": self.uses, "with": self.with_}


@dataclass(frozen=True)
class InputPathMarker:
    """Marks a string field as the path of a file or folder that a plugin reads."""


InputPath = Annotated[str, InputPathMarker()]
"""A file or folder that a plugin reads: in a recipe relative to its folder, in `--set` and Python to the current one.
The plugin gets it absolute; `~` is the user's own folder. Whether it exists is for the plugin to say."""

C = TypeVar("C", bound=BaseModel)


@dataclass(frozen=True)
class Ratio:
    """What a Field says that is a compressor's ratio: the values that `compressit search` tries without being told."""

    low: float
    high: float
    layers: str = ""  # of a ratio per layer: the note of its stage whose keys are the layers' names

    def mark(self) -> dict[str, Any]:
        """As `json_schema_extra` of a Field."""
        return {"search": {"low": self.low, "high": self.high, "layers": self.layers}}

    @staticmethod
    def of(field: FieldInfo) -> Ratio | None:
        """What the field says; None if it is no ratio."""
        extra = field.json_schema_extra
        found = extra.get("search") if isinstance(extra, dict) else None
        return Ratio(**cast("dict[str, Any]", found)) if isinstance(found, dict) else None


def ratio(low: float, high: float, layers: str = "") -> dict[str, Any]:
    """Marks an option as a compressor's ratio: `Field(0.5, gt=0, lt=1, json_schema_extra=ratio(0.1, 0.95))`.

    `compressit search` tries values from `low` to `high`. `layers` is for an option that holds a ratio for each layer,
    `{name: ratio}`: the note (`ctx.note`) of the stage whose keys are the layers that can have one.
    """
    return Ratio(low, high, layers).mark()


def parse(config_type: type[C], values: Mapping[str, Any]) -> C:
    """Validates strictly (text is not a number), but accepts lists for tuples, as in YAML and JSON.

    Raises pydantic.ValidationError.
    """
    return config_type.model_validate_json(json.dumps(values), strict=True)


def dump(config: BaseModel) -> dict[str, Any]:
    """The fully resolved options as JSON values. Keys are made from them."""
    return config.model_dump(mode="json")


def changed(config_type: type[BaseModel], info: ValidationInfo, value: object) -> bool:
    """For field validators: whether the value differs from the field's default.

    An option without effect is a mistake only then, since resolved options, in jobs and results, include all defaults.
    """
    return value != config_type.model_fields[str(info.field_name)].default


def misplaced(key: str, message: str, value: object) -> ValidationError:
    """An error that a validator can raise to point at one key of a nested config."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data(key, [InitErrorDetails(type=kind, loc=(key,), input=value)])


def model_refs(config: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every `ModelRef` with the path of its field, including nested configs and lists."""
    return _texts(config, ModelRefMarker)


def model_uses(config: Any) -> Iterator[tuple[tuple[str, ...], ModelUse]]:
    """Every `ModelUse` with its path, including those in nested configs and lists."""
    if isinstance(config, ModelUse):
        yield (), config
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(config, BaseModel):
        items = ((name, getattr(config, name)) for name in type(config).model_fields)
    elif isinstance(config, dict):
        items = cast("dict[Any, Any]", config).items()
    elif isinstance(config, list | tuple):
        items = enumerate(cast("list[Any]", config))
    for key, item in items:
        for path, use in model_uses(item):
            yield (str(key), *path), use


def absolute(config: C, folder: Callable[[tuple[str, ...]], Path]) -> C:
    """The options with every `InputPath` made absolute: relative ones start from the folder of their place."""
    found = list(_texts(config, InputPathMarker))
    if not found:
        return config
    values = dump(config)
    for path, text in found:
        put_at(values, path, str(folder(path) / os.path.expanduser(text)))
    return parse(type(config), values)


def without_folders(config: BaseModel) -> dict[str, Any]:
    """The options as JSON values, of each path (`InputPath`, `ModelRef` of a file) only the last part: for others, to
    whom folders of this machine say nothing."""
    values = dump(config)
    files = (found for found in model_refs(config) if found[1].endswith(".safetensors"))
    for path, text in (*_texts(config, InputPathMarker), *files):
        put_at(values, path, Path(text).name)
    return values


def put_at(values: Any, path: tuple[str, ...], value: Any) -> None:
    """Sets a value in nested dicts and lists."""
    *way, last = path
    for part in way:
        values = values[int(part) if isinstance(values, list) else part]
    values[int(last) if isinstance(values, list) else last] = value


def names_models(field: FieldInfo) -> bool:
    """Whether a field is a `ModelRef` or contains one."""
    return _bears(field, ModelRefMarker)


def _texts(config: Any, marker: type, marked: bool = False) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts of fields with this marker. `marked`: `config` is the value of such a field, not a config."""
    items: Iterable[tuple[Any, Any, bool]] = ()
    if isinstance(config, BaseModel):
        fields = type(config).model_fields.items()
        items = ((name, getattr(config, name), _bears(field, marker)) for name, field in fields)
    elif isinstance(config, dict):
        items = ((key, item, marked) for key, item in cast("dict[Any, Any]", config).items())
    elif isinstance(config, list | tuple):
        items = ((key, item, marked) for key, item in enumerate(cast("list[Any]", config)))
    elif isinstance(config, str) and marked:
        yield (), config
    for key, item, has_some in items:
        for path, text in _texts(item, marker, has_some):
            yield (str(key), *path), text


def _bears(field: FieldInfo, marker: type) -> bool:
    return any(isinstance(m, marker) for m in field.metadata) or _is_marked(field.annotation, marker)


def _is_marked(annotation: Any, marker: type) -> bool:
    # For `ModelRef` the marker is on the field itself; for `ModelRef | None` and tuples it is inside the annotation.
    if any(isinstance(m, marker) for m in getattr(annotation, "__metadata__", ())):
        return True
    return any(_is_marked(member, marker) for member in get_args(annotation))
