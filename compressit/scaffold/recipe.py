"""The beginning of a recipe: installed plugins, every option in sight, and a first run that is quick."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from compressit.config import Config, model_refs
from compressit.contract.fit_options import FitConfig
from compressit.contract.kinds import Dataset, Evaluator, Model, Plugin
from compressit.errors import CompressitError
from compressit.host.describe import made
from compressit.host.plugins import Host, Registered
from compressit.recipe.envelope import INIT, MODEL, PREVIOUS

_FEW_IMAGES = 1000
_QUICK_FIT = {"epochs": 5, "batch_size": 32, "optimizer": {"name": "adam", "lr": 0.01}}  # learns in few steps


@dataclass(frozen=True)
class Parts:
    """The plugins of a recipe, by name."""

    data: str
    model: str
    stages: Sequence[str]
    evaluate: Sequence[str]
    report: Sequence[str] = ()


def checked_name(name: str) -> str:
    """A recipe's name without the ending `.yaml`. Raises CompressitError for what a recipe cannot be called."""
    bare = name.removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bare) or len(bare) > 100:
        raise CompressitError(
            f"'{name}' is no name for a recipe",
            "use letters, digits, '.', '_' and '-'; --folder says where it goes",
        )
    return bare


def recipe_text(name: str, parts: Parts, host: Host, files: Sequence[str] = ()) -> str:
    """A commented recipe of these parts. `files`: plugin files, relative to the recipe.

    Raises CompressitError for a part that is not installed or of the wrong kind.
    """
    return "\n".join(_lines(name, parts, host, files)) + "\n"


def missing_options(parts: Parts, host: Host) -> list[str]:
    """Options without a default that no example sets either, as `plugin: option`: the user has to fill them in."""
    names = (parts.data, parts.model, *parts.stages, *parts.evaluate, *parts.report)
    plugins = [host.find(name).plugin for name in dict.fromkeys(names)]
    return [
        f"{plugin.name}: {option}"
        for plugin in plugins
        for option in _required(plugin.Config)
        if option not in plugin.example
    ]


def usual_evaluators(host: Host) -> list[str]:
    """Those that can measure any model, at once: no timings, no questions about the stage or another model."""
    return [
        r.plugin.name
        for r in host.registered("evaluator")
        if issubclass(r.plugin, Evaluator)
        and not (r.plugin.exclusive or r.plugin.uses_stage)
        and (plugin := made(r.plugin, {})) is not None
        and not any(model_refs(plugin.config))
    ]


def smallest_dataset(host: Host) -> str:
    """The data set with the fewest numbers in it, as far as is known without loading. Raises CompressitError."""
    return _first(host, "dataset", lambda r: (_numbers(r.plugin), r.plugin.name))


def plainest_model(host: Host) -> str:
    """A model that can make itself narrower if there is one, so that every compressor has something to do.

    Raises CompressitError where no model is installed.
    """
    fixed = Model.with_width
    return _first(host, "model", lambda r: (getattr(r.plugin, "with_width", fixed) is fixed, r.plugin.name))


def any_trainer(host: Host) -> str:
    """The first trainer by name. Raises CompressitError where none is installed."""
    return _first(host, "trainer", lambda r: r.plugin.name)


def _first(host: Host, kind: str, order: Any) -> str:
    found = sorted(host.registered(kind), key=order)
    if not found:
        raise CompressitError(f"no {kind} is installed, and a recipe needs one", "install a plugin with one")
    return found[0].plugin.name


def _numbers(plugin: type[Plugin[Any]]) -> float:
    """How many numbers its training inputs are, with its example's options; infinite where that is not known."""
    try:
        dataset = made(plugin, plugin.example)
        if not isinstance(dataset, Dataset) or dataset.train_size is None:
            return math.inf
        return dataset.train_size * math.prod(dataset.input_shape)
    except Exception:  # noqa: BLE001 - somebody's code, and only a choice
        return math.inf


def _lines(name: str, parts: Parts, host: Host, files: Sequence[str]) -> Iterator[str]:
    trust = " --trust" if files else ""
    yield f"# `compressit check {name}.yaml{trust}` finds mistakes, `compressit run {name}.yaml{trust}` runs it."
    yield "# `compressit plugins` lists what may follow `uses`; `compressit plugins show NAME` its options, for `with`."
    yield "# A line with a # in front shows a default. `quick` is for a short first run, `example` for you to choose."
    yield "version: 1"
    yield f"name: {name}"
    if files:
        yield f"plugins: {json.dumps(list(files))}  # code: it runs only with --trust"
    yield "\ndata:"
    yield from _block(host.find(parts.data, "dataset"), "  ")
    yield "\n# Its inputs and classes come from the data."
    yield "model:"
    yield from _block(host.find(parts.model, "model"), "  ")
    yield "\n# Each stage starts from the model of the one before it; `needs: NAME` names another."
    yield "stages:"
    for stage, uses in zip(stage_names(parts.stages), parts.stages, strict=True):
        yield f"  {stage}:"
        yield from _block(host.find(uses, "trainer", "compressor"), "    ")
    yield "\n# Each of these measures the model of every stage."
    yield from _listed("evaluate", [host.find(uses, "evaluator") for uses in parts.evaluate])
    if parts.report:
        yield "\n# Figures and words for report.html."
        yield from _listed("report", [host.find(uses, "report") for uses in parts.report])
    yield "\nseeds: [0]  # [0, 1, 2] runs everything three times: mean and standard deviation"


def stage_names(uses: Sequence[str]) -> list[str]:
    """`prune.magnitude` becomes `prune`; a second one `magnitude`, a third one `magnitude2`."""
    names: list[str] = []
    for plugin in uses:
        kind, method = plugin.split(".")
        numbers = range(2, len(uses) + 2)
        tries = [kind, method, *(f"{method}{n}" for n in numbers), *(f"stage{n}" for n in numbers)]
        names.append(next(name for name in tries if _is_free(name) and name not in names))
    return names


def _is_free(name: str) -> bool:
    valid = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
    return valid and name not in (INIT, PREVIOUS, MODEL)


def _listed(key: str, plugins: Sequence[Registered]) -> Iterator[str]:
    yield f"{key}:" if plugins else f"{key}: []"
    for registered in plugins:
        first, *rest = _block(registered, "    ")
        yield f"  - {first.strip()}"
        yield from rest


def _block(registered: Registered, indent: str) -> Iterator[str]:
    plugin = registered.plugin
    yield f"{indent}uses: {plugin.name}  # {plugin.summary()}"
    options = list(_options(plugin))
    if options:
        yield f"{indent}{'' if any(not o.startswith('#') for o in options) else '# '}with:"
        yield from (f"{indent}  {option}" for option in options)


def _options(plugin: type[Plugin[Any]]) -> Iterator[str]:
    """A line for each option: what must be given, what makes the first run quick, and defaults behind a #."""
    needed, quick = _needed(plugin), _quick(plugin)
    for name, field in plugin.Config.model_fields.items():
        shown, about = field.alias or name, " ".join((field.description or "").split())
        if shown in needed:
            yield f"{shown}: {_yaml(needed[shown])}  # example: {about}".rstrip(": ")
        elif field.is_required():
            yield f"{shown}: null  # FILL IN: {about}"
        else:
            default = _yaml(field.get_default(call_default_factory=True))
            if shown in quick:
                yield f"{shown}: {_yaml(quick[shown])}  # quick (default {default}): {about}".rstrip(": ")
            else:
                yield f"# {shown}: {default}  # {about}".rstrip(" #")


def _needed(plugin: type[Plugin[Any]]) -> Mapping[str, Any]:
    """The example's options that have no default; where those alone will not do, all of it."""
    example = plugin.example
    needed = {option: example[option] for option in _required(plugin.Config) if option in example}
    alone = made(plugin, needed) is not None or made(plugin, example) is None
    return needed if alone else example


def _required(config: type[Config]) -> list[str]:
    return [field.alias or name for name, field in config.model_fields.items() if field.is_required()]


def _quick(plugin: type[Plugin[Any]]) -> dict[str, Any]:
    """Options that make a first run short."""
    if issubclass(plugin, Dataset):
        return {"limit": _FEW_IMAGES} if _many_images(plugin) else {}
    return _QUICK_FIT if issubclass(plugin.Config, FitConfig) else {}


def _many_images(plugin: type[Dataset[Any]]) -> bool:
    """Whether it has more than a few training images, or nobody knows."""
    try:
        dataset = made(plugin, plugin.example)
        return dataset is None or dataset.train_size is None or dataset.train_size > _FEW_IMAGES
    except Exception:  # noqa: BLE001 - somebody's code, and only a guess
        return True


def _yaml(value: Any) -> str:
    """A value on one line: JSON, which YAML is a superset of, with plain words left plain."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in _NO_WORDS:
        return value
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)


_NO_WORDS = {"null", "true", "false"}
