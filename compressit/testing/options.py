"""Checks of every kind: what a plugin says of itself and of its options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from compressit.config import dump, parse
from compressit.testing.check import ConformanceError, check
from compressit.testing.subject import Subject

LONGEST = 120  # characters of a summary: a line of a listing


@check()
def summary(subject: Subject) -> None:
    """The docstring's first line says what it does, for listings."""
    line = subject.plugin.summary()
    if not line:
        raise ConformanceError(f"{subject.name} has no docstring", "say in one line what it does")
    if len(line) > LONGEST:
        raise ConformanceError(
            f"the first line of its docstring has {len(line)} characters", f"keep it below {LONGEST}"
        )


@check()
def options_described(subject: Subject) -> None:
    """Every option has a description, those of nested configs too."""
    bare = [path for path, field in _fields(subject.plugin.Config) if not (field.description or "").strip()]
    if bare:
        raise ConformanceError(
            f"no description: {', '.join(bare)}",
            'write `Field(..., description="...")`: it is the help where the option is wrong',
        )


@check()
def options_strict(subject: Subject) -> None:
    """Options are frozen, and an option that does not exist is refused."""
    for config in dict.fromkeys([subject.plugin.Config, *_nested(subject.plugin.Config)]):
        if config.model_config.get("extra") != "forbid":
            raise ConformanceError(
                f"{config.__name__} lets misspelt options pass",
                "derive it from compressit.Config and keep extra",
            )
        if not config.model_config.get("frozen"):
            raise ConformanceError(
                f"{config.__name__} can be changed: its values would no longer be those of the key",
                "derive it from compressit.Config and keep it frozen",
            )


@check()
def options_round_trip(subject: Subject) -> None:
    """Options written out and read again are the same, and have a JSON Schema."""
    written = dump(subject.config)
    again = parse(subject.plugin.Config, json.loads(json.dumps(written)))
    if again != subject.config or dump(again) != written:
        raise ConformanceError(
            f"its options {written} come back as {dump(again)}",
            "workers and checkpoints get the written options: a validator must leave its own result alone",
        )
    json.dumps(subject.plugin.Config.model_json_schema())


CHECKS = (summary, options_described, options_strict, options_round_trip)


def _fields(
    config: type[BaseModel], path: str = "", above: tuple[type, ...] = ()
) -> Iterator[tuple[str, Any]]:
    for name, field in config.model_fields.items():
        yield path + name, field
        for block in _blocks(field.annotation):
            if block not in (*above, config):
                yield from _fields(block, f"{path}{name}.", (*above, config))


def _nested(config: type[BaseModel], above: tuple[type, ...] = ()) -> Iterator[type[BaseModel]]:
    for field in config.model_fields.values():
        for block in _blocks(field.annotation):
            if block not in (*above, config):
                yield block
                yield from _nested(block, (*above, config))


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    """The configs that a field's type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _blocks(argument)
