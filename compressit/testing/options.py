"""Checks for plugins of all kinds: their summary and options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from compressit.config import dump, parse
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.subject import Subject

LONGEST = 120  # characters of a summary, which is one line of a listing


@check()
def summary(subject: Subject) -> None:
    """The first line of the docstring says what the plugin does."""
    line = subject.plugin.summary()
    if not line:
        raise ConformanceError(f"{subject.name} has no docstring", "describe in one line what it does")
    if len(line) > LONGEST:
        raise ConformanceError(
            f"the first line of its docstring has {len(line)} characters", f"use at most {LONGEST}"
        )


@check()
def options_described(subject: Subject) -> None:
    """Every option has a description, including those of nested configs."""
    none_found(
        (
            f"{path}{name}"
            for path, config in _configs(subject.plugin.Config)
            for name, field in config.model_fields.items()
            if not (field.description or "").strip()
        ),
        "no description",
        'write `Field(..., description="...")`: it is shown as help if the option is wrong',
    )


@check()
def options_strict(subject: Subject) -> None:
    """Options are frozen, and unknown options are rejected."""
    for _, config in _configs(subject.plugin.Config):
        if config.model_config.get("extra") != "forbid":
            raise ConformanceError(
                f"{config.__name__} accepts unknown options",
                "derive it from compressit.Config and do not change `extra`",
            )
        if not config.model_config.get("frozen"):
            raise ConformanceError(
                f"{config.__name__} is not frozen: changed values would not match the result's key",
                "derive it from compressit.Config and keep it frozen",
            )


@check()
def options_round_trip(subject: Subject) -> None:
    """Options stay the same when written and read again, and have a JSON Schema."""
    written = dump(subject.config)
    again = parse(subject.plugin.Config, json.loads(json.dumps(written)))
    if again != subject.config or dump(again) != written:
        raise ConformanceError(
            f"its options {written} are read back as {dump(again)}",
            "validators must not change their own output: workers and checkpoints read the written options",
        )
    json.dumps(subject.plugin.Config.model_json_schema())


def _configs(
    config: type[BaseModel], path: str = "", above: tuple[type, ...] = ()
) -> Iterator[tuple[str, type[BaseModel]]]:
    """A config and its nested configs, each with the path of its options: `optimizer.`."""
    yield path, config
    for name, field in config.model_fields.items():
        for block in _blocks(field.annotation):
            if block not in (*above, config):
                yield from _configs(block, f"{path}{name}.", (*above, config))


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _blocks(argument)
