"""A first recipe of installed plugins: it shows every option, and its first run is quick."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from compressit.config import Config, names_models
from compressit.contract.classification import usual as usual_task
from compressit.contract.fit_options import FitConfig
from compressit.contract.kinds import Dataset, Evaluator, Model
from compressit.contract.plugin import Plugin
from compressit.contract.records import File
from compressit.contract.tasks import Task
from compressit.datasets.specs import as_inputs, values_of
from compressit.errors import CompressitError
from compressit.host.declared import declared
from compressit.host.describe import made
from compressit.host.plugins import Host
from compressit.recipe.envelope import RESERVED
from compressit.scaffold.files import rendered

_FEW_IMAGES = 1000
_QUICK_FIT = {"epochs": 5, "batch_size": 32, "optimizer": {"name": "adam", "lr": 0.01}}  # learns in few steps
_NO_WORDS = {"null", "true", "false"}


@dataclass(frozen=True)
class Parts:
    """The plugins of a recipe, by name."""

    data: str
    model: str
    stages: Sequence[str]
    evaluate: Sequence[str]
    report: Sequence[str] = ()
    observe: Sequence[str] = ()
    task: str | None = None  # default: what the dataset poses


def parts_around(name: str, kind: str, host: Host) -> Parts:
    """The parts of a recipe that uses this plugin. Raises CompressitError if another part is not installed."""

    def one(wanted: str) -> str:
        return name if kind == wanted else usual(host, wanted)

    stages = [one("trainer"), *([name] if kind == "compressor" else [])]
    report, observe = ([name] if kind == wanted else [] for wanted in ("report", "observer"))
    dataset, task = one("dataset"), name if kind == "task" else None
    evaluate = usual_evaluators(host, dataset, task)
    return Parts(dataset, one("model"), stages, evaluate, report, observe, task)


def checked_name(name: str) -> str:
    """A recipe's name without the ending `.yaml`. Raises CompressitError for an invalid name."""
    bare = name.removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bare) or len(bare) > 100:
        raise CompressitError(
            f"'{name}' is not a valid recipe name",
            "use letters, digits, '.', '_' and '-'; --folder says where it goes",
        )
    return bare


def recipe_text(name: str, parts: Parts, host: Host, files: Sequence[str] = ()) -> str:
    """A commented recipe of these parts. `files`: plugin files, relative to the recipe.

    Raises CompressitError for a part that is not installed or has the wrong kind.
    """

    def use(uses: str, *kinds: str) -> dict[str, Any]:
        plugin = host.find(uses, *kinds).plugin
        options = list(_options(plugin))
        chosen = any(not option.startswith("#") for option in options)
        return {"name": plugin.name, "about": plugin.summary(), "options": options, "chosen": chosen}

    stages = zip(stage_names(parts.stages), parts.stages, strict=True)
    return rendered(
        "recipe.yaml.j2",
        name=name,
        trust=" --trust" if files else "",
        files=json.dumps(list(files)),
        data=use(parts.data, "dataset"),
        task=use(parts.task, "task") if parts.task else None,
        model=use(parts.model, "model"),
        stages=[(stage, use(uses, "trainer", "compressor")) for stage, uses in stages],
        evaluate=[use(uses, "evaluator") for uses in parts.evaluate],
        report=[use(uses, "report") for uses in parts.report],
        observe=[use(uses, "observer") for uses in parts.observe],
    )


def missing_options(parts: Parts, host: Host) -> list[str]:
    """Options that the user must fill in, as `plugin: option`: they have no default and no example sets them."""
    names = (
        parts.data,
        *([parts.task] if parts.task else []),
        parts.model,
        *parts.stages,
        *parts.evaluate,
        *parts.report,
        *parts.observe,
    )
    plugins = [host.find(name).plugin for name in dict.fromkeys(names)]
    return [
        f"{p.name}: {option}" for p in plugins for option in _required(p.Config) if option not in p.example
    ]


def usual_evaluators(host: Host, data: str | None = None, task: str | None = None) -> list[str]:
    """Evaluators that a first recipe of these data, or of this task, needs: those without options, about which nothing
    is to be decided. They take no timings, need no stage, write no files, and measure nothing that an earlier one
    measures. By default of a classification."""
    posed = _posed(host, data, task)
    found: list[str] = []
    measured: set[str] = set()
    for registered in host.registered("evaluator"):
        plugin = registered.plugin
        if not issubclass(plugin, Evaluator) or plugin.exclusive or plugin.uses_stage:
            continue
        made_one = made(plugin, {})
        if not isinstance(made_one, Evaluator) or plugin.Config.model_fields:
            continue
        if made_one.tasks is not None and not posed.does() & made_one.tasks:
            continue
        gives = declared(made_one, posed)
        if any(isinstance(one, File) for one in gives.values()) or made_one.misfits(posed):
            continue
        if not measured & gives.keys():
            found.append(plugin.name)
            measured |= gives.keys()
    return found


def _posed(host: Host, data: str | None, task: str | None) -> Task[Any]:
    """The task of that name, else what the dataset of that name poses, as far as that is known without options."""
    if task is not None and task in host.names("task"):
        kind = host.find(task, "task").plugin
        return made(kind, {}) or made(kind, kind.example) or usual_task()  # type: ignore[return-value]
    kind = host.find(data, "dataset").plugin if data is not None and data in host.names("dataset") else None
    try:
        dataset: Any = kind and (made(kind, {}) or made(kind, kind.example))
        return host.task(dataset.task) if dataset else usual_task()
    except Exception:  # noqa: BLE001 - third-party code, and only a preference
        return usual_task()


def usual(host: Host, kind: str) -> str:
    """The first plugin of a kind by name; for datasets, the one with the fewest values; for models, preferably one
    that implements `with_width`, so that every compressor can be used.

    Raises CompressitError if no plugin of the kind is installed.
    """

    def order(plugin: type[Plugin[Any]]) -> tuple[float, str]:
        if issubclass(plugin, Dataset):
            return _size(plugin)[1], plugin.name
        rigid = issubclass(plugin, Model) and plugin.with_width is Model.with_width
        teachers = any(map(names_models, plugin.Config.model_fields.values()))  # a first stage has none
        return rigid + teachers, plugin.name

    plugins = [registered.plugin for registered in host.registered(kind)]
    if not plugins:
        raise CompressitError(f"no {kind} is installed, and a recipe needs one", f"install a {kind} plugin")
    return min(plugins, key=order).name


def stage_names(uses: Sequence[str]) -> list[str]:
    """`prune.magnitude` becomes `prune`; the second time `magnitude`, the third time `magnitude2`."""
    names: list[str] = []
    for plugin in uses:
        kind, method = plugin.split(".")
        numbers = range(2, len(uses) + 2)
        tries = [kind, method, *(f"{method}{n}" for n in numbers), *(f"stage{n}" for n in numbers)]
        taken = (*RESERVED, *names)
        names.append(next(name for name in tries if name[0].isalnum() and name not in taken))
    return names


def _size(plugin: type[Dataset[Any]]) -> tuple[float, float]:
    """The number of training images with the example's options, and of values in them; infinite if that is not
    known without loading."""
    try:
        dataset = made(plugin, plugin.example)
        if dataset is None or dataset.train_size is None:
            return math.inf, math.inf
        return dataset.train_size, dataset.train_size * values_of(as_inputs(dataset.inputs))
    except Exception:  # noqa: BLE001 - third-party code, and only a preference
        return math.inf, math.inf


def _options(plugin: type[Plugin[Any]]) -> Iterator[str]:
    """A line for each option: required ones, those that make the first run quick, and defaults behind a #."""
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
    """The example's options that have no default; all of the example if those do not suffice."""
    example = plugin.example
    needed = {option: example[option] for option in _required(plugin.Config) if option in example}
    alone = made(plugin, needed) is not None or made(plugin, example) is None
    return needed if alone else example


def _required(config: type[Config]) -> list[str]:
    return [field.alias or name for name, field in config.model_fields.items() if field.is_required()]


def _quick(plugin: type[Plugin[Any]]) -> dict[str, Any]:
    """Options that make a first run short."""
    if issubclass(plugin, Dataset):
        return {"limit": _FEW_IMAGES} if _size(plugin)[0] > _FEW_IMAGES else {}
    return _QUICK_FIT if issubclass(plugin.Config, FitConfig) else {}


def _yaml(value: Any) -> str:
    """A value on one line, as JSON (a subset of YAML); plain words are not quoted."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in _NO_WORDS:
        return value
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)
