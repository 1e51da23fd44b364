"""Describes plugins: kind, source, options, metrics. For `compressit plugins show` and tables in the docs.

Reads only the class and its config: does not import torch or load data.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from compressit.config import Config, ModelRefMarker, dump, parse
from compressit.contract.classification import usual
from compressit.contract.kinds import Dataset, Evaluator
from compressit.contract.plugin import Plugin
from compressit.contract.records import Declared, Metric
from compressit.contract.tasks import Task
from compressit.datasets.specs import as_inputs, to_json
from compressit.errors import CompressitError
from compressit.host.declared import declared
from compressit.host.plugins import Registered

P = TypeVar("P", bound=Plugin[Any])


@dataclass(frozen=True)
class Option:
    """One option, in words."""

    name: str  # as in a recipe; with its path if nested, `optimizer.lr`
    type: str  # "whole number ≥ 1 or null"
    default: str  # as in a recipe; "required" if there is none
    about: str


@dataclass(frozen=True)
class Style:
    """How literal values and the names of nested blocks are written."""

    literal: Callable[[str], str] = str
    block: Callable[[str], str] = lambda config: "mapping"  # from the name of its config class


PLAIN = Style()


def facts(registered: Registered) -> dict[str, Any]:
    """A plugin's facts as JSON values.

    Keys: name, kind, from, version (null for a local file), about (the docstring), example, options (name,
    type, default and about of each, in words), schema (the options' JSON Schema). Evaluators also have metrics and
    records (curves, pictures and arrays) with example options, for a classification; tasks metrics; datasets shape and
    classes with default options (null if unknown).
    """
    plugin = registered.plugin
    found: dict[str, Any] = {
        "name": plugin.name,
        "kind": registered.kind,
        "from": registered.source.name,
        "version": registered.source.version,
        "about": inspect.cleandoc(plugin.__doc__ or ""),
        "example": dict(plugin.example),
        "options": [vars(option) for option in nested_options(plugin.Config)],
        "schema": plugin.Config.model_json_schema(by_alias=True),
    }
    if issubclass(plugin, Evaluator):
        found |= _declared(plugin)
    if issubclass(plugin, Task):
        found["metrics"] = [{"name": name, **vars(metric)} for name, metric in _measures(plugin).items()]
    if issubclass(plugin, Dataset):
        found |= _contents(plugin)
    return found


def _declared(plugin: type[Evaluator[Any]]) -> dict[str, Any]:
    """What the evaluator may give with its example's options; its `metrics` if it cannot be made from these."""
    found: Mapping[str, Declared] = plugin.metrics
    with suppress(ValidationError, CompressitError):
        found = declared(plugin(parse(plugin.Config, plugin.example)), usual())
    facts = {name: json.loads(json.dumps(vars(what))) for name, what in found.items()}
    kinds = {name: type(what).__name__.lower() for name, what in found.items()}
    return {
        "metrics": [{"name": name, **facts[name]} for name in found if kinds[name] == "metric"],
        "records": [{"name": n, "kind": kinds[n], **facts[n]} for n in found if kinds[n] != "metric"],
    }


def options(config: type[Config], base: type[Config] | None = None, style: Style = PLAIN) -> Iterator[Option]:
    """A config's options, without those inherited unchanged from `base`."""
    schema = config.model_json_schema(by_alias=True)
    if "$ref" in schema:  # a recursive block
        schema = schema["$defs"][schema["$ref"].split("/")[-1]]
    properties = schema.get("properties", {})
    inherited = base.model_fields if base is not None else {}
    for name, field in config.model_fields.items():
        if repr(field) == repr(inherited.get(name)):
            continue
        shown = field.alias or name
        kind = "model" if ModelRefMarker.__name__ in repr(field) else _type(properties[shown], style)
        default = "required"
        if not field.is_required():
            default = _value(field.get_default(call_default_factory=True), style)
        yield Option(shown, kind, default, field.description or "")


def nested_options(config: type[Config], path: str = "", above: tuple[type, ...] = ()) -> Iterator[Option]:
    """A config's options, each followed by its nested options: `optimizer`, `optimizer.name` …

    Names are paths as for `--set`; `name[].part` is an option of each item of a list.
    """
    for option, (_, field) in zip(options(config), config.model_fields.items(), strict=True):
        yield Option(path + option.name, option.type, option.default, option.about)
        for block, many in _blocks(field.annotation):
            if block not in (*above, config):
                below = f"{path}{option.name}{'[]' if many else ''}."
                yield from nested_options(block, below, (*above, config))


def made(plugin: type[P], values: Mapping[str, Any]) -> P | None:
    """The plugin with these options; None if they are invalid."""
    try:
        return plugin(parse(plugin.Config, values))
    except ValidationError:
        return None


def _measures(plugin: type[Task[Any]]) -> Mapping[str, Metric]:
    task = made(plugin, {}) or made(plugin, plugin.example)
    try:
        return task.measures() if task is not None else {}
    except Exception:  # noqa: BLE001 - third-party code, and only a listing
        return {}


def _contents(plugin: type[Dataset[Any]]) -> dict[str, Any]:
    dataset = made(plugin, {}) or made(plugin, plugin.example)
    try:
        assert dataset is not None
        return {"inputs": to_json(as_inputs(dataset.inputs)), "classes": dataset.task.outputs}
    except Exception:  # noqa: BLE001 - third-party code, and only a listing
        return {"inputs": None, "classes": None}


def _blocks(annotation: Any, many: bool = False) -> Iterator[tuple[type[Config], bool]]:
    """The configs in a field's type, and whether the field holds several."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation, many
    origin = getattr(annotation, "__origin__", None)
    for argument in get_args(annotation):
        yield from _blocks(argument, many or origin in (list, tuple, dict))


def _type(schema: Mapping[str, Any], style: Style) -> str:
    """A JSON Schema's type in words: `whole number ≥ 1 or null`."""
    if "$ref" in schema:
        return style.block(schema["$ref"].split("/")[-1])
    if "enum" in schema or "const" in schema:
        return _or(_value(value, style) for value in schema.get("enum", [schema.get("const")]))
    if members := schema.get("anyOf", schema.get("oneOf")):
        return _or(_type(member, style) for member in members)
    kind = str(schema.get("type"))
    if kind == "null":
        return style.literal("null")
    if kind == "boolean":
        return _or(map(style.literal, ("true", "false")))
    if kind != "array":
        return f"{_WORDS.get(kind, 'any value')} {_bounds(schema)}".strip()
    if "prefixItems" in schema:
        items = ", ".join(_type(item, style) for item in schema["prefixItems"])
        return f"list of {len(schema['prefixItems'])}: {items}"
    item = _type(schema.get("items", {}), style)
    plural = item.replace("number", "numbers").replace("text", "texts").replace("value", "values")
    return f"{'non-empty ' if schema.get('minItems') else ''}list of {plural.removeprefix('any ')}"


_WORDS = {"integer": "whole number", "number": "number", "string": "text", "object": "mapping"}
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds(schema: Mapping[str, Any]) -> str:
    return " and ".join(f"{sign} {schema[key]:g}" for key, sign in _SIGNS.items() if key in schema)


def _value(value: Any, style: Style) -> str:
    if isinstance(value, BaseModel):
        return "its defaults" if value == type(value)() else style.literal(json.dumps(dump(value)))
    return style.literal(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))


def _or(names: Iterable[str]) -> str:
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} or {last}" if first else last
