"""Measuring a checkpoint file on a dataset, outside any recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compressit.errors import CompressitError, Mark, Problem, RecipeError
from compressit.kinds import Dataset, Evaluator
from compressit.plugins import Host
from compressit.recipe.yamlfile import parse_value


def evaluate_file(
    path: Path,
    data: str,
    settings: Sequence[str],
    evaluators: Sequence[str],
    host: Host,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Metrics of all evaluators by name.

    `settings`: options of the dataset as `name=value`. Unless they say otherwise, inputs are scaled as the
    checkpoint's input contract says, with the mean and deviation it was trained with. `announce` is told of
    downloads. Raises CompressitError when the data do not fit the model, for an option the dataset does not
    have, and for an evaluator that needs a stage to judge.
    """
    from compressit.api import default_cache
    from compressit.checkpoint import model as checkpoint
    from compressit.compute import Compute
    from compressit.context import DataContext, StageContext
    from compressit.seeds import Streams
    from compressit.splits import prepare

    plugins = [host.create(Evaluator, name, {}) for name in evaluators]
    for plugin in plugins:
        if plugin.uses_stage:
            raise CompressitError(
                f"{plugin.name} judges a stage of a recipe, not a file", "put it into a recipe"
            )
    options = dict(_setting(text) for text in settings)
    dataset = _dataset(host, data, options)
    contract, architecture = checkpoint.contract_of(path), checkpoint.architecture_of(path)
    if architecture is not None:
        _check_fits(path, "inputs", tuple(architecture.input_shape), data, tuple(dataset.input_shape))
        _check_fits(path, "classes", architecture.classes, data, dataset.classes)
    model = checkpoint.load(path, host=host)
    compute = Compute.select("auto")
    raw = dataset.load(DataContext(default_cache(), announce))
    like = contract if "scale" not in options else None
    prepared = prepare(raw, dataset.config, dataset.classes, dataset.class_names, compute.device, like)
    ctx = StageContext(compute, Streams(0), lambda: prepared, lambda ref: model)
    model.to(compute.device)
    return {name: value for plugin in plugins for name, value in plugin.evaluate(model, ctx).items()}


def _dataset(host: Host, name: str, options: Mapping[str, Any]) -> Dataset[Any]:
    try:
        return host.create(Dataset, name, options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CompressitError(f"{name}: {where}: {first['msg']}", "see --set") from error


def _check_fits(path: Path, what: str, wanted: object, data: str, given: object) -> None:
    if wanted != given:
        raise CompressitError(
            f"{path} has {what} {wanted}, {data} has {given}", "choose the data it was trained on"
        )


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise CompressitError(f"--set {text}: there is no '='", "write --set limit=1000")
    problems: list[Problem] = []
    node = parse_value(value, Mark(f"--set {text}"), problems)
    if problems:
        raise RecipeError(problems)
    return name, node.plain()
