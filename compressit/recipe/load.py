"""Reads a recipe file into a validated Recipe, or reports all mistakes at once.

The envelope has its own configs; each `with` is checked by its plugin's. Only the plugins that are used are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from compressit.contract.tasks import Task
from compressit.errors import CompressitError, Mark, Problem, RecipeError, did_you_mean
from compressit.host.plugins import Host, installed
from compressit.recipe.compare import check_variants, read_compare
from compressit.recipe.envelope import INIT, KEYS, OVERRIDABLE, VARIANT_KEYS, Body, Head
from compressit.recipe.first_model import read_model
from compressit.recipe.measures import read_evaluators
from compressit.recipe.merge import merge, only
from compressit.recipe.model import Compare, LocalPlugin, Search, Variant
from compressit.recipe.model import Recipe as Resolved
from compressit.recipe.originals import of_first
from compressit.recipe.references import Read, check_references
from compressit.recipe.scope import Scope
from compressit.recipe.search import Written, read_search
from compressit.recipe.settings import Setting, apply_setting, parse_setting
from compressit.recipe.size import size_problem
from compressit.recipe.stages import read_stages
from compressit.recipe.sweep import Swept, variants
from compressit.recipe.task import read_task
from compressit.recipe.uses import read_data, read_uses
from compressit.recipe.validation import shown, validate
from compressit.recipe.written import by_keys, plain, yaml_of
from compressit.recipe.yamlfile import Node, parse_yaml, read_text

Trust = Callable[[LocalPlugin], bool]


class Recipe(Resolved):
    """A validated recipe, from a file (`load_recipe`) or from Python (`Recipe.of`)."""

    @staticmethod
    def of(
        values: Mapping[str, Any],
        host: Host | None = None,
        path: Path | str | None = None,
        trust: bool | Trust = False,
    ) -> Recipe:
        """The recipe that a file with these values would be: dicts, lists, text, numbers, and paths of files.

        Its text is the YAML that the values stand for, so a run of it can be run again. Paths in it are relative to the
        folder of `path`, the file that it stands for, by default to the current folder. `host` and `trust` as for
        `load_recipe`. Raises RecipeError with every mistake, its place being the path of its keys.
        """
        problems: list[Problem] = []
        found = plain(values, problems)
        if problems:
            raise RecipeError(problems)
        text = yaml_of(found)
        root = by_keys(parse_yaml(text, "the recipe", problems))
        file = Path(path) if path is not None else None
        return _recipe(root, text, host or installed(), None, (), _trusting(trust), file, problems)


def load_recipe(
    path: Path | str,
    profile: str | None = None,
    settings: Sequence[str] = (),
    trust: bool | Trust = False,
    host: Host | None = None,
) -> Recipe:
    """Reads and validates a recipe file, with the installed plugins or those of `host`.

    `settings` are `--set` arguments ("stages.train.with.epochs=5"). A plugin file that the recipe names is imported
    only if `trust` is true, or is a function that returns true for it.
    Raises RecipeError with every mistake and its place.
    """
    path = Path(path)
    text = read_text(path)
    return parse_recipe(text, str(path), host or installed(), profile, settings, _trusting(trust), path)


def _trusting(trust: bool | Trust) -> Trust:
    return trust if callable(trust) else lambda _: bool(trust)


def parse_recipe(
    text: str,
    source: str,
    host: Host,
    profile: str | None = None,
    settings: Sequence[str] = (),
    trust: Trust = lambda plugin: False,
    path: Path | None = None,
) -> Recipe:
    """As `load_recipe`, from text. `source` is the file name that messages show.

    Paths in the text are relative to the folder of `path`, by default the current folder.
    """
    problems: list[Problem] = []
    root = parse_yaml(text, source, problems)
    return _recipe(root, text, host, profile, settings, trust, path, problems)


def _recipe(
    root: Node,
    text: str,
    host: Host,
    profile: str | None,
    settings: Sequence[str],
    trust: Trust,
    path: Path | None,
    problems: list[Problem],
) -> Recipe:
    """The recipe of a tree, which was made of `text` with these problems. Raises RecipeError with all of them."""
    _check_version(root, problems)
    _check_keys(root, problems)
    parsed = [setting for text in settings if (setting := _setting(text, problems))]
    root = _with_profile(root, profile, problems)
    names = {"variants": root.at("variants").mapping}
    for setting in parsed:
        if setting.path[0] not in VARIANT_KEYS:
            (root,) = apply_setting([root], setting, names, problems)
    head = validate(Head, only(root, Head.model_fields), "", problems)

    scope = Scope(host, path.resolve().parent if path else Path.cwd(), problems)
    plugins, complete = _load_plugins(root, scope, trust)
    scope = replace(scope, complete=complete)
    bodies = _bodies(root, parsed, problems)
    found = _variants(bodies, scope, head.seeds if head else None)
    search = _search(root.at("search"), bodies, found, scope) if not problems else Search()
    compare = None
    if head is not None and head.compare is not None:
        compare, found = _compared(head, root, found, scope)
    tasks = tuple(variant.posed for variant in found)
    report = read_uses(root.at("report"), "report", "report", replace(scope, tasks=tasks))
    observe = read_uses(root.at("observe"), "observe", "observer", scope)
    if problems or head is None:
        raise RecipeError(_in_order(problems))
    return Recipe(
        name=head.name,
        path=path,
        profile=profile,
        seeds=head.seeds,
        compute=head.compute,
        variants=found,
        report=report,
        observe=observe,
        plugins=plugins,
        description=head.description,
        text=text,
        settings=tuple(settings),
        search=search,
        compare=compare,
    )


def _compared(
    head: Head, root: Node, found: tuple[Variant, ...], scope: Scope
) -> tuple[Compare | None, tuple[Variant, ...]]:
    """How the variants are compared, and all of them with controls. What depends on their content is checked once they
    have no mistakes."""
    node, names = root.at("compare"), root.at("variants")
    check_variants(node, names, scope)
    if scope.problems or head.compare is None:
        return None, found
    return read_compare(head.compare, node, names, found, len(head.seeds), scope)


def _check_version(root: Node, problems: list[Problem]) -> None:
    """Stops at a recipe of another version, which would be misread."""
    version = root.mapping.get("version")
    if version is not None and type(version.value) is int and version.value != 1:
        message = f"version must be 1 (got {shown(version)})"
        hint = "this compressit reads recipes of version 1; a newer compressit may read yours"
        raise RecipeError([*problems, Problem(message, version.mark, hint)])


def _check_keys(root: Node, problems: list[Problem]) -> None:
    for key, mark in root.keys.items():
        if key not in KEYS:
            problems.append(Problem(f"unknown key '{key}'", mark, did_you_mean(key, KEYS)))
    for name, variant in root.at("variants").mapping.items():
        _overrides_only(variant, VARIANT_KEYS, f"variants.{name}", problems)
    for name, profile in root.at("profiles").mapping.items():
        _overrides_only(profile, OVERRIDABLE, f"profiles.{name}", problems)


def _overrides_only(node: Node, allowed: Collection[str], path: str, problems: list[Problem]) -> None:
    for key, mark in node.keys.items():
        if key not in allowed and key in KEYS:
            problems.append(Problem(f"{path} cannot override '{key}'", mark, f"only {', '.join(allowed)}"))
        elif key not in allowed:
            problems.append(Problem(f"unknown key '{key}' in {path}", mark, did_you_mean(key, allowed)))


def _setting(text: str, problems: list[Problem]) -> Setting | None:
    setting = parse_setting(text, problems)
    known = (*OVERRIDABLE, "name")
    if setting is not None and setting.path[0] not in known:
        message = f"--set cannot change '{setting.path[0]}'"
        problems.append(Problem(message, setting.mark, did_you_mean(setting.path[0], known)))
        return None
    return setting


def _with_profile(root: Node, profile: str | None, problems: list[Problem]) -> Node:
    if profile is None:
        return root
    profiles = root.at("profiles")
    if profile not in profiles.mapping:
        known = ", ".join(profiles.mapping)
        hint = f"this recipe's profiles: {known}" if known else "this recipe has no profiles"
        problems.append(Problem(f"no profile is called '{profile}'", Mark(profiles.mark.source), hint))
        return root
    return merge(root, only(profiles.mapping[profile], OVERRIDABLE))


def _load_plugins(root: Node, scope: Scope, trust: Trust) -> tuple[tuple[LocalPlugin, ...], bool]:
    """The plugin files that could be loaded, and whether all could."""
    items = root.at("plugins").items
    loaded: list[LocalPlugin] = []
    for item in items:
        if not isinstance(item.value, str):
            continue  # reported by the envelope's check
        try:
            path = scope.file(item.value, item.mark)
            plugin = LocalPlugin.read(path)
            if not trust(plugin):
                message = f"the plugin file {item.value} is not trusted, so it was not run"
                scope.problem(message, item.mark, "read the file, then pass --trust")
                continue
            scope.host.load_file(path, plugin.digest)
        except CompressitError as error:
            scope.problem(error.message, item.mark, error.hint)
            continue
        loaded.append(plugin)
    return tuple(loaded), len(loaded) == len(items)


def _bodies(root: Node, settings: Sequence[Setting], problems: list[Problem]) -> list[Swept]:
    """The body of each variant after merging and the sweep. Raises RecipeError for a recipe with too many jobs."""
    base = only(root, VARIANT_KEYS)
    overrides = root.at("variants").mapping or {"": Node({}, root.mark)}
    bodies = [merge(base, only(over, VARIANT_KEYS)) for over in overrides.values()]
    names = {"stages": {name for body in bodies for name in body.at("stages").mapping}}
    for setting in settings:
        if setting.path[0] in VARIANT_KEYS:
            _check_keeps(setting, dict(zip(overrides, bodies, strict=True)), overrides, problems)
            bodies = apply_setting(bodies, setting, names, problems)
    swept = variants(dict(zip(overrides, bodies, strict=True)), root.at("sweep"), problems)
    too_large = size_problem([variant.body for variant in swept], root.at("seeds"))
    if too_large is not None:
        raise RecipeError(_in_order([*problems, too_large]))
    return swept


def _check_keeps(
    setting: Setting, bodies: Mapping[str, Node], overrides: Mapping[str, Node], problems: list[Problem]
) -> None:
    """Another `uses` drops the old options, those of variants too: then twins, say, would silently be the same."""
    *path, last = setting.path
    part, uses = (path, setting.value) if last == "uses" else ([*path, last], setting.value.at("uses"))
    for name, body in bodies.items():
        given = _at(overrides[name], part)
        options = given.at("with").mapping
        if not options or "uses" in given.mapping or uses.value in (None, _at(body, part).at("uses").value):
            continue
        message = f"drops the options that variant '{name}' gives to {'.'.join(part)}: {', '.join(options)}"
        hint = (
            "change `uses` in a profile, which comes before the variants: profiles: {mine: …}, --profile mine"
        )
        problems.append(Problem(message, setting.mark, hint))


def _at(node: Node, path: Sequence[str]) -> Node:
    for key in path:
        node = node.at(key)
    return node


def _variants(bodies: Sequence[Swept], scope: Scope, seeds: Collection[int] | None) -> tuple[Variant, ...]:
    """The valid variants. Problems are noted once; a problem of only some variants names them."""
    made = [_variant(swept, replace(scope, problems=[])) for swept in bodies]
    check_references([read for read, _ in made], seeds)
    owners: dict[Problem, list[str]] = {}
    for read, _ in made:
        for problem in dict.fromkeys(read.problems):
            owners.setdefault(problem, []).append(read.variant)
    for problem, names in owners.items():
        only_in = f" (variant {', '.join(names)})" if len(names) < len(bodies) else ""
        scope.problems.append(replace(problem, message=problem.message + only_in))
    return tuple(variant for _, variant in made if variant is not None)


def _variant(swept: Swept, scope: Scope) -> tuple[Read, Variant | None]:
    """What could be read of a variant, and the variant; None if it has mistakes."""
    name, body = swept.name, swept.body
    validate(Body, body, "", scope.problems)
    # `Body` has reported what is missing or not a mapping.
    given = body.at("data")
    data, offer = read_data(given, scope) if isinstance(given.value, Mapping) else (None, None)
    written = body.at("task")
    task = None
    if data is not None and offer is not None and isinstance(written.value, Mapping | None):
        task = read_task(written, data, given, scope)
        offer = replace(offer, task=task.uses) if task is not None else offer
    names = body.at("stages").mapping
    scope = replace(
        scope,
        offer=offer,
        tasks=(cast("Task[Any]", task.plugin),) if task is not None else (),
        stages=frozenset(names),
        validation=offer is None or offer.validation,  # unknown where the data has a mistake
    )
    before = len(scope.problems)
    model = read_model(body.at("model"), scope) if isinstance(body.at("model").value, Mapping) else None
    sound = model is not None and offer is not None and len(scope.problems) == before
    originals = of_first(model, scope.host) if model is not None and sound else None
    stages, named = read_stages(body.at("stages"), scope)
    first, trained = (model.names, model.given) if model is not None else ((INIT,), False)
    items = read_evaluators(body.at("evaluate"), replace(scope, stages=frozenset({*names, *first})))
    whole = model is not None and len(stages) == len(names)
    read = Read(name, offer, first, trained, originals, stages, named, items, whole, scope.problems)
    if scope.problems or data is None or task is None or model is None:
        return read, None
    variant = Variant(name, data, task, model, stages, tuple(item.measure for item in items), swept.values)
    _check_work(variant, body, scope)
    return read, variant


def _search(node: Node, bodies: Sequence[Swept], found: Sequence[Variant], scope: Scope) -> Search:
    """What `compressit search` varies. Those of a `sweep` over data or model have the same stages: one is tried."""
    read = zip(bodies, found, strict=True)
    distinct = {id(swept.body.at("stages").value): Written(swept.body, variant) for swept, variant in read}

    def tried(body: Node) -> Sequence[Problem]:
        return _variant(Swept("", body), replace(scope, problems=[]))[0].problems

    return read_search(node, list(distinct.values()), tried, scope)


def _check_work(variant: Variant, body: Node, scope: Scope) -> None:
    """Notes a variant without anything to do, and files of which it is unclear what is to be done."""
    model, stages = variant.model, variant.stages
    if model.files and stages:
        message = "model.from names several files, which a recipe without stages measures"
        hint = "leave out `stages`, or name one file to start from"
        scope.problem(message, body.at("model").at("from").mark, hint)
    if not stages and not any(measure.stages or model.given for measure in variant.evaluate):
        hint = "give it `stages`, or checkpoints (`model: {from: […]}`) and what to `evaluate` of them"
        scope.problem("the recipe does nothing: it has no stages, and no model to measure", body.mark, hint)


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Without repetition, from the top of the file down."""
    places = ((problem, problem.where or Mark("")) for problem in dict.fromkeys(problems))
    return [problem for problem, _ in sorted(places, key=lambda p: (p[1].line or 0, p[1].column or 0))]
