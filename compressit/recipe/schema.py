"""JSON Schema of recipes with the installed plugins, for completion and checks in editors.

It should accept every recipe that `compressit check` accepts. So it requires no option that variants, profiles
or `sweep` may give.
"""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticUserError

from compressit.config import Config
from compressit.contract.init_options import InitConfig
from compressit.host.plugins import Host, Registered
from compressit.recipe.envelope import (
    OVERRIDABLE,
    VARIANT_KEYS,
    Body,
    EvaluateBlock,
    Head,
    ModelBlock,
    StageBlock,
    WeightsBlock,
)

Schema = dict[str, Any]
_TENSORS = r"\.safetensors$"


def json_schema(host: Host) -> Schema:
    """A draft 2020-12 schema. Every plugin is one alternative, identified by the constant in `uses`."""
    definitions: Schema = {}
    head = _of(Head, "recipe", definitions)
    body = _of(Body, "recipe", definitions)
    properties: Schema = head["properties"] | body["properties"]
    weights: Schema = {"weights": _weights(definitions), "init": _of(InitConfig, "recipe", definitions)}
    stage: Schema = dict(_of(StageBlock, "recipe", definitions)["properties"])
    measure: Schema = dict(_of(EvaluateBlock, "recipe", definitions)["properties"])
    for own in ("uses", "with"):
        del stage[own], measure[own]

    definitions["data"] = _one_of(host, ("dataset",), {}, definitions)
    definitions["task"] = _one_of(host, ("task",), {}, definitions)
    definitions["task"]["oneOf"].append(_options_only())
    definitions["model"] = _one_of(host, ("model",), weights, definitions)
    definitions["model"]["oneOf"].append(_checkpoint())
    definitions["stage"] = _one_of(host, ("trainer", "compressor"), stage, definitions)
    definitions["evaluator"] = _one_of(host, ("evaluator",), measure, definitions, by_name=True)
    definitions["report"] = _one_of(host, ("report",), {}, definitions, by_name=True)
    definitions["observer"] = _one_of(host, ("observer",), {}, definitions, by_name=True)

    properties["data"] |= {"$ref": "#/$defs/data"}
    properties["task"] |= {"$ref": "#/$defs/task"}
    properties["model"] |= {"$ref": "#/$defs/model"}
    properties["stages"] |= {"additionalProperties": {"$ref": "#/$defs/stage"}}
    properties["evaluate"] |= {"items": {"$ref": "#/$defs/evaluator"}}
    properties["report"] |= {"items": {"$ref": "#/$defs/report"}}
    properties["observe"] |= {"items": {"$ref": "#/$defs/observer"}}
    properties["variants"] = _overrides(properties["variants"], VARIANT_KEYS)
    properties["profiles"] = _overrides(properties["profiles"], OVERRIDABLE)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "compressit recipe",
        "type": "object",
        "properties": properties,
        "required": head["required"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _of(config: type[Config], name: str, definitions: Schema) -> Schema:
    """A config's schema. The schemas of nested configs are added to `definitions`."""
    try:
        schema = config.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    except PydanticUserError:  # a field's type has no JSON Schema
        return {"type": "object", "properties": {}}
    for nested, definition in schema.pop("$defs", {}).items():
        definitions[f"{name}.{nested}"] = definition
    return schema


def _one_of(
    host: Host, kinds: tuple[str, ...], extra: Schema, definitions: Schema, by_name: bool = False
) -> Schema:
    """One alternative for each plugin of these kinds. With `by_name`, its name alone is allowed too."""
    plugins = [registered for kind in kinds for registered in host.registered(kind)]
    blocks = [_block(registered, extra, definitions) for registered in plugins]
    names = [{"enum": [registered.plugin.name for registered in plugins]}] if by_name and plugins else []
    # An empty `oneOf` is not a valid schema; without plugins nothing is accepted.
    return {"oneOf": [*names, *blocks] or [False]}


def _block(registered: Registered, extra: Schema, definitions: Schema) -> Schema:
    plugin = registered.plugin
    options = _of(plugin.Config, plugin.name, definitions)
    options.pop("required", None)  # `sweep`, a variant or a profile may give it
    about = f"{plugin.summary()} ({registered.owner})"
    return {
        "title": plugin.name,
        "description": about,
        "type": "object",
        "properties": {
            "uses": {"const": plugin.name, "description": about},
            "with": {"anyOf": [options, {"type": "null"}]},
            **extra,
        },
        "required": ["uses"],
        "additionalProperties": False,
    }


def _weights(definitions: Schema) -> Schema:
    """`FILE` or `{file: …, fresh: […]}`."""
    field = _of(ModelBlock, "recipe", definitions)["properties"]["weights"]
    file = {"type": "string", "pattern": _TENSORS}
    block = _of(WeightsBlock, "recipe", definitions)
    block["properties"]["file"] |= file
    block.pop("required")  # a variant or a profile may give it
    return {**field, "anyOf": [file, block, {"type": "null"}]}


def _options_only() -> Schema:
    """Options of the task that the dataset poses."""
    return {
        "title": "the dataset's task",
        "type": "object",
        "properties": {"with": {"type": ["object", "null"]}},
        "additionalProperties": False,
    }


def _checkpoint() -> Schema:
    about = ModelBlock.model_fields["from_"].description
    file: Schema = {"type": "string", "pattern": _TENSORS}
    several = [{"type": "array", "items": file}, {"type": "object", "additionalProperties": file}]
    return {
        "title": "a checkpoint",
        "type": "object",
        "properties": {"from": {"anyOf": [file, *several], "description": about}},
        "required": ["from"],
        "additionalProperties": False,
    }


def _overrides(schema: Schema, keys: tuple[str, ...]) -> Schema:
    """The schema of overrides. They hold parts of blocks and nulls, so only their keys are checked."""
    override: Schema = {
        "type": ["object", "null"],
        "properties": dict.fromkeys(keys, True),
        "additionalProperties": False,
    }
    return {
        "description": schema["description"],
        "type": ["object", "null"],
        "additionalProperties": override,
    }
