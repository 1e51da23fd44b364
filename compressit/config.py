"""The base of every plugin's options, and the one field type that names another model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Options of a plugin: frozen, no unknown keys, every field with a `description`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NoOptions(Config):
    """For plugins that take no options."""


@dataclass(frozen=True)
class ModelRefMarker:
    """Marks a string field as the name of a model: an edge of the task graph."""


ModelRef = Annotated[str, ModelRefMarker()]
"""A stage's name (of a ladder: its last rung), `init`, `previous` (the model the stage is given) or a
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


def model_refs(config: BaseModel) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every `ModelRef` in a config with the path of its field, nested configs included."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            for path, ref in model_refs(value):
                yield (name, *path), ref
        elif isinstance(value, str) and _is_ref(field):
            yield (name,), value


def _is_ref(field: Any) -> bool:
    # `ModelRef` puts its marker on the field, `ModelRef | None` inside the annotation's members.
    members = [field, *getattr(field.annotation, "__args__", ())]
    return any(isinstance(m, ModelRefMarker) for member in members for m in getattr(member, "metadata", ()) or getattr(member, "__metadata__", ()))
