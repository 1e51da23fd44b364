"""The base of every plugin's options, and the one field type that names another model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError


class Config(BaseModel):
    """Options of a plugin: frozen, no unknown keys, every field with a `description`."""

    # defer_build: a command that names few plugins pays for their options only
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def needs_validation(self) -> tuple[str, ...]:
        """The options, by name, that need data with a validation split: a recipe without one is refused."""
        return ()


class NoOptions(Config):
    """For plugins that take no options."""


@dataclass(frozen=True)
class ModelRefMarker:
    """Marks a string field as the name of a model: an edge of the job graph."""


ModelRef = Annotated[str, ModelRefMarker()]
"""A stage's name (of a repeated one: its last round), `init`, `previous` (the model the stage is given) or a
checkpoint's path ending in `.safetensors`."""

C = TypeVar("C", bound=BaseModel)


def parse(config_type: type[C], values: Mapping[str, Any]) -> C:
    """Validates strictly (no text for a number), but lists serve for tuples, as in YAML and JSON.

    Raises pydantic.ValidationError.
    """
    return config_type.model_validate_json(json.dumps(values), strict=True)


def dump(config: BaseModel) -> dict[str, Any]:
    """The fully resolved options as JSON values: what a key is made of."""
    return config.model_dump(mode="json")


def changed(config_type: type[BaseModel], info: ValidationInfo, value: object) -> bool:
    """For a field's validator: whether the value differs from the field's default.

    Only then is an option without effect a mistake: resolved options, as jobs and results hold them, have every
    default written out.
    """
    return value != config_type.model_fields[str(info.field_name)].default


def misplaced(key: str, message: str, value: object) -> ValidationError:
    """What the validator of a nested config raises to point at one key of it."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data(key, [InitErrorDetails(type=kind, loc=(key,), input=value)])


def model_refs(config: Any, marked: bool = False) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every `ModelRef` with the path of its field, those in nested configs and lists included.

    `marked`: what is no config itself is the value of a field that holds some.
    """
    items: Iterable[tuple[Any, Any, bool]] = ()
    if isinstance(config, BaseModel):
        fields = type(config).model_fields.items()
        items = ((name, getattr(config, name), names_models(field)) for name, field in fields)
    elif isinstance(config, dict):
        items = ((key, item, marked) for key, item in cast("dict[Any, Any]", config).items())
    elif isinstance(config, list | tuple):
        items = ((key, item, marked) for key, item in enumerate(cast("list[Any]", config)))
    elif isinstance(config, str) and marked:
        yield (), config
    for key, item, names_some in items:
        for path, ref in model_refs(item, names_some):
            yield (str(key), *path), ref


def names_models(field: FieldInfo) -> bool:
    """Whether a field is a `ModelRef` or holds some."""
    return any(isinstance(m, ModelRefMarker) for m in field.metadata) or _is_ref(field.annotation)


def _is_ref(annotation: Any) -> bool:
    # `ModelRef` puts its marker on the field itself, `ModelRef | None` and `tuple[ModelRef, ...]` inside.
    if any(isinstance(m, ModelRefMarker) for m in getattr(annotation, "__metadata__", ())):
        return True
    return any(_is_ref(member) for member in get_args(annotation))
