"""Turns pydantic's errors into problems: the place, what is wrong with the value, what the field is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from compressit.config import parse
from compressit.errors import FOREIGN, CompressitError, Mark, Problem, SeveralErrors, did_you_mean, told
from compressit.recipe.yamlfile import Node

C = TypeVar("C", bound=BaseModel)


def validate(config_type: type[C], node: Node, path: str, problems: list[Problem]) -> C | None:
    """The validated config of a mapping; None if it has mistakes, which are added to `problems`.

    `path` is the mapping's path in the recipe ("stages.train.with"; "" at the top).
    """
    try:
        return parse(config_type, node.plain())
    except ValidationError as error:
        problems.extend(_problems(error, config_type, node, path))
    except FOREIGN as error:  # a validator is third-party code
        message = f"{path}: checking the options fails: {told(error)}"
        hint = f"this is a bug in {config_type.__module__}, not in the recipe"
        problems.append(Problem(message, node.mark, hint))
    return None


def checked(config_type: type[C], values: Mapping[str, Any], plugin: str) -> C:
    """The validated options of `plugin`, without a recipe. `values` are plain JSON values.

    Raises CompressitError with every mistake, worded as for a recipe.
    """
    problems: list[Problem] = []
    config = validate(config_type, tree(values, Mark(plugin)), plugin, problems)
    if config is None:
        raise several(problems)
    return config


def several(problems: Sequence[Problem]) -> CompressitError:
    """One error of all these mistakes, which have no places."""
    if len(problems) == 1:
        return CompressitError(problems[0].message, problems[0].hint)
    return SeveralErrors("\n".join(str(replace(problem, where=None)) for problem in problems))


def shown(node: Node) -> str:
    """A value as messages show it."""
    if isinstance(node.value, Mapping):
        return "a mapping" if node.value else "an empty mapping"
    if isinstance(node.value, tuple):
        return "a list" if node.value else "an empty list"
    text = f"'{node.value}'" if isinstance(node.value, str) else json.dumps(node.value)
    return text if len(text) <= 60 else text[:57] + "…"


def place_of(node: Node, path: tuple[str, ...]) -> Mark:
    """Where the value at `path` was written; if it was not, the place of the nearest mapping around it."""
    for part in path:
        if part in node.mapping:
            node = node.mapping[part]
        elif part.isdecimal() and int(part) < len(node.items):
            node = node.items[int(part)]
        else:
            break
    return node.mark


def dotted(*parts: str | int) -> str:
    """A path as messages show it, without empty parts."""
    return ".".join(str(part) for part in parts if part != "")


def tree(value: Any, mark: Mark) -> Node:
    """Plain values as a tree whose nodes all have the place `mark`."""
    if isinstance(value, Mapping):
        return Node({k: tree(v, mark) for k, v in value.items()}, mark, dict.fromkeys(value, mark))
    if isinstance(value, list | tuple):
        return Node(tuple(tree(item, mark) for item in value), mark)
    return Node(value, mark)


@dataclass(frozen=True)
class _Place:
    """What a pydantic location refers to, as far as it can be followed."""

    node: Node
    mark: Mark  # of its key, or of the item
    parts: tuple[str | int, ...]  # without the parts that name a union's members
    type: Any
    about: str | None  # what the innermost field is for


def _problems(error: ValidationError, config_type: type[BaseModel], node: Node, path: str) -> list[Problem]:
    # A union gives one error for each member. They share a place and become one message.
    found: dict[tuple[str, str, Mark, str | None], dict[str, None]] = {}
    for item in error.errors(include_url=False):
        subject, demand, got, where, hint = _said(item, config_type, node, path)
        found.setdefault((subject, got, where, hint), {})[demand] = None
    problems: list[Problem] = []
    for (subject, got, where, hint), demands in found.items():
        first, *more = demands
        text = first + "".join(f" or {demand.removeprefix('must be ')}" for demand in more)
        problems.append(Problem(f"{subject}{text}{got}", where, hint))
    return problems


def _said(error: Any, config_type: type, root: Node, path: str) -> tuple[str, str, str, Mark, str | None]:
    """Subject, demand, "(got …)", place and help of one pydantic error."""
    kind, location = error["type"], list(error["loc"])
    missing = kind == "missing"
    key: Any = location.pop() if missing or kind == "extra_forbidden" else None
    place = _followed(root, location, config_type)
    node, where = place.node, place.node.mark
    named = dotted(path, *place.parts)
    subject = f"{named or 'the recipe'} "
    if kind == "extra_forbidden":
        inside = f" in {named}" if named else ""
        return f"unknown key '{key}'", inside, "", node.keys.get(key, where), _meant(key, place.type)
    if missing and isinstance(key, int):
        return subject, f"must have at least {key + 1} items", f" (got {shown(node)})", where, place.about
    if missing:
        return subject, f"must have '{key}'", "", where, _step(place.type, key, root)[1]
    demand = _demand(error["msg"])
    if location[-1:] == ["[key]"]:
        return f"'{named}' ", demand, "", place.mark, None
    if kind in ("value_error", "assertion_error") and isinstance(node.value, Mapping):
        return f"{subject.rstrip()}: ", demand, "", where, place.about  # a full sentence
    if kind in ("value_error", "assertion_error") and isinstance(node.value, tuple):
        return subject, demand, "", where, place.about
    return subject, demand, f" (got {shown(node)})", where, place.about


def _followed(node: Node, location: list[Any], annotation: Any) -> _Place:
    """Walks down a location."""
    place = _Place(node, node.mark, (), annotation, None)
    for part in location:
        below, mark = None, place.mark
        if isinstance(part, int) and part < len(place.node.items):
            below = place.node.items[part]
            mark = below.mark
        elif str(part) in place.node.mapping:
            below, mark = place.node.mapping[str(part)], place.node.keys[str(part)]
        inner, about = _step(place.type, part, place.node)
        real = below is not None or about is not None
        parts = (*place.parts, part) if real else place.parts
        place = _Place(below or place.node, mark, parts, inner, about or place.about)
    return place


def _step(annotation: Any, part: Any, node: Node) -> tuple[Any, str | None]:
    """The type below `annotation` at `part`, and the field's description, if it is a field."""
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part == (field.alias or name):
                    return field.annotation, field.description or ""
        origin, arguments = get_origin(member), get_args(member)
        if origin in (dict, Mapping) and part in node.mapping and len(arguments) == 2:
            return arguments[1], None
        if origin in (list, tuple) and isinstance(part, int) and arguments:
            return arguments[0 if arguments[-1] is ... else min(part, len(arguments) - 1)], None
    return annotation, None


def _members(annotation: Any) -> list[Any]:
    """The members of a union, without `Annotated`."""
    if isinstance(annotation, type) or get_origin(annotation) in (dict, list, tuple, Mapping):
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return [found for argument in get_args(annotation) for found in _members(argument)]


def _meant(key: str, annotation: Any) -> str | None:
    """A hint for an unknown key: an option of the same name in a nested block, else a similar key."""
    inside = [path for path in _paths(annotation) if len(path) > 1 and path[-1] == key]
    if not inside:
        return did_you_mean(key, [path[0] for path in _paths(annotation) if len(path) == 1])
    names = " or ".join(f"'{dotted(*path)}'" for path in inside)
    *blocks, _ = inside[0]
    written = "".join(f"{block}: {{" for block in blocks) + f"{key}: …" + "}" * len(blocks)
    return f"did you mean {names}? It belongs in a block: `{written}`"


def _paths(annotation: Any, above: tuple[type, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all options of the configs in a type, nested ones included."""
    for config in _members(annotation):
        if isinstance(config, type) and issubclass(config, BaseModel) and config not in above:
            for name, field in config.model_fields.items():
                yield (field.alias or name,)
                for below in _paths(field.annotation, (*above, config)):
                    yield (field.alias or name, *below)


def _demand(message: str) -> str:
    """Pydantic's message, reworded to follow our subject."""
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.split(" after validation, not ")[0]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


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
