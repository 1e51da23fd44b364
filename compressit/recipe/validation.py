"""From pydantic's errors to problems with a place: which value, what it was, what the field is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from compressit.config import parse
from compressit.errors import FOREIGN, CompressitError, Mark, Problem, SeveralErrors, did_you_mean, told
from compressit.recipe.yamlfile import Node

C = TypeVar("C", bound=BaseModel)


def validate(config_type: type[C], node: Node, path: str, problems: list[Problem]) -> C | None:
    """The validated config of a mapping, or None with every mistake added to `problems`.

    `path` is where the mapping stands in the recipe ("stages.train.with"; "" at the top).
    """
    try:
        return parse(config_type, node.plain())
    except ValidationError as error:
        problems.extend(_problems(error, config_type, node, path))
    except FOREIGN as error:  # a validator is somebody's code
        message = f"{path}: its options cannot be checked: {told(error)}"
        problems.append(
            Problem(message, node.mark, f"a fault of {config_type.__module__}, not of the recipe")
        )
    return None


def checked(config_type: type[C], values: Mapping[str, Any], plugin: str) -> C:
    """The validated options of `plugin`, outside any recipe; `values` are plain, as JSON has them.

    Raises CompressitError with every mistake, in a recipe's words.
    """
    problems: list[Problem] = []
    config = validate(config_type, _node(values, Mark(plugin)), plugin, problems)
    if config is None:
        told = [Problem(problem.message, hint=problem.hint) for problem in problems]
        if len(told) == 1:
            raise CompressitError(told[0].message, told[0].hint)
        raise SeveralErrors("\n".join(map(str, told)))
    return config


def shown(node: Node) -> str:
    """A value as a message names it."""
    if isinstance(node.value, Mapping):
        return "a mapping"
    if isinstance(node.value, tuple):
        return "a list"
    text = f"'{node.value}'" if isinstance(node.value, str) else json.dumps(node.value)
    return text if len(text) <= 60 else text[:57] + "…"


def place_of(node: Node, path: tuple[str, ...]) -> Mark:
    """Where the value at `path` was written; the nearest mapping around it when it was not."""
    for part in path:
        if part in node.mapping:
            node = node.mapping[part]
        elif part.isdecimal() and int(part) < len(node.items):
            node = node.items[int(part)]
        else:
            break
    return node.mark


def dotted(*parts: str | int) -> str:
    """A path as messages show it, empty parts left out."""
    return ".".join(str(part) for part in parts if part != "")


def _node(value: Any, mark: Mark) -> Node:
    """Plain values as a tree of which every part was written at `mark`."""
    if isinstance(value, Mapping):
        return Node({k: _node(v, mark) for k, v in value.items()}, mark, dict.fromkeys(value, mark))
    if isinstance(value, list | tuple):
        return Node(tuple(_node(item, mark) for item in value), mark)
    return Node(value, mark)


def _problems(error: ValidationError, config_type: type[BaseModel], node: Node, path: str) -> list[Problem]:
    # A union gives one error for each member: they have one place and become one message.
    found: dict[tuple[str, str, Mark | None, str | None], list[str]] = {}
    for item in error.errors(include_url=False):
        subject, demand, tail, where, hint = _one(item, config_type, node, path)
        demands = found.setdefault((subject, tail, where, hint), [])
        if demand not in demands:
            demands.append(demand)
    problems: list[Problem] = []
    for (subject, tail, where, hint), demands in found.items():
        text = demands[0] + "".join(f" or {d.removeprefix('must be ')}" for d in demands[1:])
        problems.append(Problem(f"{subject}{text}{tail}", where, hint))
    return problems


def _one(error: Any, config_type: type, node: Node, path: str) -> tuple[str, str, str, Mark, str | None]:
    """Subject, demand, "(got …)", place and help of one pydantic error."""
    kind, location = error["type"], list(error["loc"])
    key = location.pop() if kind in ("missing", "extra_forbidden") else None
    of_key = bool(location) and location[-1] == "[key]"
    value, parts, mark, annotation, field = _follow(node, location, config_type)
    subject = dotted(path, *parts)
    if kind == "extra_forbidden":
        where = value.keys.get(str(key), value.mark)
        return (
            f"unknown key '{key}'",
            f" in {subject}" if subject else "",
            "",
            where,
            _meant(str(key), annotation),
        )
    if kind == "missing" and isinstance(key, int):
        return (
            f"{subject or 'the list'} ",
            f"must have at least {key + 1} items",
            _got(value),
            value.mark,
            _about(field),
        )
    if kind == "missing":
        wanted = _step(annotation, key, node)[1]
        return f"{subject or 'the recipe'} ", f"must have '{key}'", "", value.mark, _about(wanted)
    if of_key:
        return f"'{subject}' ", _demand(error["msg"]), "", mark, None
    hint, demand = _about(field), _demand(error["msg"])
    if kind in ("value_error", "assertion_error") and isinstance(value.value, (Mapping, tuple)):
        colon = (
            ":" if isinstance(value.value, Mapping) else ""
        )  # a sentence of its own, or one about the list
        return f"{subject or 'the recipe'}{colon} ", demand, "", value.mark, hint
    return f"{subject or 'the recipe'} ", demand, _got(value), value.mark, hint


def _follow(
    node: Node, location: list[Any], annotation: Any
) -> tuple[Node, list[Any], Mark, Any, FieldInfo | None]:
    """Walks down a location: the value, the parts that are real, the last key's place, its type and field.

    Parts that are neither a key nor an index are names of a union's members.
    """
    parts: list[Any] = []
    mark = node.mark
    field: FieldInfo | None = None
    for part in location:
        below: Node | None = None
        if isinstance(part, int) and part < len(node.items):
            below, mark = node.items[part], node.items[part].mark
        elif str(part) in node.mapping:
            below, mark = node.mapping[str(part)], node.keys[str(part)]
        annotation, found = _step(annotation, part, node)
        if below is None and found is None:
            continue
        field = found or field
        parts.append(part)
        node = below or node
    return node, parts, mark, annotation, field


def _step(annotation: Any, part: Any, node: Node) -> tuple[Any, FieldInfo | None]:
    """The type below `annotation` at `part`, and the field when a config has it."""
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation, field
        origin, arguments = get_origin(member), get_args(member)
        if origin in (dict, Mapping) and part in node.mapping and len(arguments) == 2:
            return arguments[1], None
        if origin in (list, tuple) and isinstance(part, int) and arguments:
            return arguments[min(part, len(arguments) - 1)] if arguments[-1] is not ... else arguments[
                0
            ], None
    return annotation, None


def _members(annotation: Any) -> list[Any]:
    """The members of a union, `Annotated` taken off."""
    if isinstance(annotation, type) or get_origin(annotation) in (dict, list, tuple, Mapping):
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return [found for argument in get_args(annotation) for found in _members(argument)]


def _meant(key: str, annotation: Any) -> str | None:
    """What an unknown key may be instead: an option of that very name in a nested block, else a similar one."""
    inside = [path for path in _paths(annotation) if len(path) > 1 and path[-1] == key]
    if not inside:
        return did_you_mean(key, [path[0] for path in _paths(annotation) if len(path) == 1])
    names = " or ".join(f"'{dotted(*path)}'" for path in inside)
    *blocks, _ = inside[0]
    written = "".join(f"{block}: {{" for block in blocks) + f"{key}: …" + "}" * len(blocks)
    return f"did you mean {names}? It belongs into a block: `{written}`"


def _paths(annotation: Any, above: tuple[type, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The options of the configs a type holds, and those of their blocks, each as its path."""
    for config in _members(annotation):
        if isinstance(config, type) and issubclass(config, BaseModel) and config not in above:
            for name, field in config.model_fields.items():
                yield (field.alias or name,)
                for below in _paths(field.annotation, (*above, config)):
                    yield (field.alias or name, *below)


def _demand(message: str) -> str:
    """Pydantic's sentence as the end of ours."""
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.split(" after validation, not ")[0]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _got(value: Node) -> str:
    if isinstance(value.value, tuple) and not value.value:
        return " (got an empty list)"
    if isinstance(value.value, Mapping) and not value.value:
        return " (got an empty mapping)"
    return f" (got {shown(value)})"


def _about(field: FieldInfo | None) -> str | None:
    return field.description if field is not None else None


_WORDS = {
    **{f"{noun} should ": "must " for noun in ("Input", "String", "List", "Tuple", "Dictionary", "Value")},
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid array": "a list",
    "a valid dictionary": "a mapping",
    "an object": "a mapping",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid ": "a ",
}
