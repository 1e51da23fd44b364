"""Writes a variant as a recipe of its own: reading it gives the same plan, whatever the current folder is."""

from __future__ import annotations

from typing import Any

from compressit.config import dump, parse
from compressit.contract.init_options import InitConfig
from compressit.recipe.model import Measure, ModelSpec, Recipe, Stage, Use, Variant


def alone(recipe: Recipe, variant: Variant, name: str, description: str = "") -> dict[str, Any]:
    """The mapping of a recipe that is called `name` and has this one version. Options with their default value are left
    out, and paths are absolute. The stages must have one member each, and name no model of another variant."""
    found = {
        "version": 1,
        "name": name,
        "description": description,
        "seeds": list(recipe.seeds),
        "compute": recipe.compute.model_dump(mode="json", exclude_defaults=True),
        "plugins": [str(plugin.path) for plugin in recipe.plugins],
        "data": _use(variant.data),
        "task": _task(variant),
        "model": _model(variant.model),
        "stages": _stages(variant),
        "evaluate": [_measure(measure) for measure in variant.evaluate],
        "report": [_use(use) for use in recipe.report],
        "observe": [_use(use) for use in recipe.observe],
    }
    return {key: value for key, value in found.items() if value not in ("", {}, [])}


def _use(use: Use) -> dict[str, Any]:
    options = use.plugin.config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"uses": use.uses, **({"with": options} if options else {})}


def _task(variant: Variant) -> dict[str, Any]:
    """Empty for the task that the dataset poses, with its options."""
    posed, task = variant.dataset.task, variant.posed
    if task.name == posed.uses and dump(task.config) == dump(parse(type(task.config), posed.options)):
        return {}
    return {"uses": task.name, "with": dump(task.config)}


def _model(spec: ModelSpec) -> dict[str, Any]:
    if spec.files:
        return {"from": {name: str(path) for name, path in spec.files}}
    if spec.use is None:
        return {"from": str(spec.checkpoint)}
    found = _use(spec.use)
    if spec.weights is not None:
        kept = list(spec.weights.fresh)
        file = str(spec.weights.file)
        found["weights"] = {"file": file, "fresh": kept} if kept else file
    if spec.init != InitConfig():
        found["init"] = spec.init.model_dump(mode="json", exclude_defaults=True)
    return found


def _stages(variant: Variant) -> dict[str, Any]:
    found: dict[str, Any] = {}
    before = "init"
    for stage in variant.stages:
        found[stage.name] = _use(stage.use) | _graph(stage, before)
        before = stage.name
    return found


def _graph(stage: Stage, before: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if stage.needs != before:
        found["needs"] = stage.needs
    if stage.repeat is not None:
        found |= {"repeat": stage.repeat, "feed": stage.feed}
    return found


def _measure(measure: Measure) -> Any:
    found = _use(measure.use)
    if measure.stages is not None:
        found["stages"] = list(measure.stages)
    if measure.name:
        found["as"] = measure.name
    return found if len(found) > 1 else measure.uses
