"""`--set path=value`: parses settings and merges them into a recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from compressit.errors import Mark, Problem, RecipeError, did_you_mean
from compressit.recipe.merge import merge, put
from compressit.recipe.yamlfile import Node, parse_value


@dataclass(frozen=True)
class Setting:
    """One `--set path=value`."""

    path: tuple[str, ...]
    value: Node

    @property
    def mark(self) -> Mark:
        """The argument itself."""
        return self.value.mark


def parse_setting(text: str, problems: list[Problem], flag: str = "--set") -> Setting | None:
    """`stages.train.with.epochs=5` as a Setting. Mistakes are added to `problems`. `flag`: what stood before it."""
    mark = Mark(f"{flag} {text}")
    name, equals, value = text.partition("=")
    path = tuple(part.strip() for part in name.split("."))
    if not equals or not all(path):
        problems.append(Problem("must look like path=value", mark, "for example stages.train.with.epochs=5"))
        return None
    at = _after_each(path)
    if at is not None:  # the keys of `sweep` and `search` are paths themselves
        path = (*path[:at], ".".join(path[at:]))
    try:
        return Setting(path, parse_value(value, mark, problems))
    except RecipeError as error:
        problems.extend(error.problems)
        return None


def options_of(settings: Iterable[str]) -> dict[str, Any]:
    """A plugin's options as nested plain values, from `["sparsity=0.5", "finetune.epochs=2"]`.

    Raises RecipeError with every mistake.
    """
    problems: list[Problem] = []
    options = Node({}, Mark("--set"))
    for setting in filter(None, [parse_setting(text, problems) for text in settings]):
        options = put(options, setting.path, setting.value)
    if problems:
        raise RecipeError(problems)
    return options.plain()


def options_by_plugin(settings: Iterable[str], plugins: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The options of each of these plugins, from `["eval.latency.batch_sizes=[1]"]`.

    Raises RecipeError with every mistake, such as the name of no plugin among them.
    """
    problems: list[Problem] = []
    options = dict.fromkeys(plugins, Node({}, Mark("--with")))
    for setting in filter(None, [parse_setting(text, problems, "--with") for text in settings]):
        written = ".".join(setting.path)
        name = next((plugin for plugin in plugins if written.startswith(f"{plugin}.")), None)
        if name is None:
            known = f"one of {', '.join(plugins)}" if plugins else "one that `--evaluator` names"
            hint = f"write PLUGIN.OPTION=VALUE, where PLUGIN is {known}"
            problems.append(Problem(f"'{written}' is no option of what is used here", setting.mark, hint))
        else:
            path = setting.path[name.count(".") + 1 :]
            options[name] = put(options[name], path, setting.value)
    if problems:
        raise RecipeError(problems)
    return {name: node.plain() for name, node in options.items()}


def apply_setting(
    roots: Sequence[Node], setting: Setting, names: Mapping[str, Collection[str]], problems: list[Problem]
) -> list[Node]:
    """The recipe's variants, each with a setting merged in.

    `names` lists the existing entries of keys with user-given names ({"stages": …}). A setting for any other name is
    a problem; a variant without that entry stays unchanged. A path through something that is not a mapping is a
    problem, and so is a null that deletes what no variant has.
    """
    first, *rest = setting.path
    named = rest[0] if rest and first in names else None
    if named is not None and named not in names[first]:
        hint = did_you_mean(named, names[first])
        problems.append(Problem(f"there is no '{named}' in {first}", setting.mark, hint))
        return [*roots]
    over = setting.value
    for part in reversed(setting.path):
        over = Node({part: over}, setting.mark, {part: setting.mark})
    has_it = [named is None or named in root.at(first).mapping for root in roots]
    for root in compress(roots, has_it):
        node = root
        for depth, part in enumerate(setting.path[:-1], start=1):
            node = node.at(part)
            if node.value is not None and not isinstance(node.value, Mapping):
                kind = "a list: set the whole list" if isinstance(node.value, tuple) else "a single value"
                problems.append(Problem(f"{'.'.join(setting.path[:depth])} is {kind}", setting.mark))
                return [*roots]
    if setting.value.value is None and not any(_holds(root, setting.path) for root in roots):
        hint = "null deletes a key that the recipe has"
        problems.append(Problem(f"there is no {'.'.join(setting.path)} to delete", setting.mark, hint))
    return [merge(root, over) if has else root for root, has in zip(roots, has_it, strict=True)]


def _holds(node: Node, path: Sequence[str]) -> bool:
    for part in path:
        if part not in node.mapping:
            return False
        node = node.mapping[part]
    return True


def _after_each(path: tuple[str, ...]) -> int | None:
    """The index where KEY begins in sweep.KEY, search.KEY and stages.NAME.sweep.KEY, also under variants.NAME."""
    if path[0] in ("sweep", "search"):
        return 1 if len(path) > 1 else None
    for stages in (0, 2):
        if path[stages : stages + 1] == ("stages",) and path[stages + 2 : stages + 3] == ("sweep",):
            return stages + 3 if len(path) > stages + 3 else None
    return None
