"""Measuring a checkpoint file on a dataset, outside any recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError, Mark, Problem, RecipeError
from compressit.plugins import Host
from compressit.recipe.yamlfile import parse_value


def evaluate_file(
    path: Path, data: str, settings: Sequence[str], evaluators: Sequence[str], host: Host
) -> dict[str, float]:
    """Metrics of all evaluators by name. The inputs are scaled as the checkpoint's input contract says.

    `settings`: options of the dataset as `name=value`. Raises CompressitError when the data do not fit the model, or
    for an evaluator that needs a stage to judge.
    """
    from compressit.api import default_cache
    from compressit.checkpoint import model as checkpoint
    from compressit.compute import Compute
    from compressit.context import DataContext, StageContext
    from compressit.splits import prepare
    from compressit.kinds import Dataset, Evaluator
    from compressit.seeds import Streams

    plugins = [host.create(Evaluator, name, {}) for name in evaluators]
    for plugin in plugins:
        if plugin.uses_stage:
            raise CompressitError(
                f"{plugin.name} judges a stage of a recipe, not a file", "put it into a recipe"
            )
    contract = checkpoint.contract_of(path)
    options = dict(_setting(text) for text in settings)
    if contract is not None:
        options.setdefault("scale", contract.scale)
    dataset = host.create(Dataset, data, options)
    if contract is not None and tuple(dataset.input_shape) != tuple(contract.shape):
        raise CompressitError(
            f"{path} takes inputs {tuple(contract.shape)}, {data} has {tuple(dataset.input_shape)}",
            "choose the data it was trained on",
        )
    model = checkpoint.load(path, host=host)
    compute = Compute.select("auto")
    raw = dataset.load(DataContext(default_cache(), lambda text: None))
    prepared = prepare(raw, dataset.config, dataset.classes, dataset.class_names, compute.device)
    ctx = StageContext(compute, Streams(0), lambda: prepared, lambda ref: model)
    model.to(compute.device)
    return {name: value for plugin in plugins for name, value in plugin.evaluate(model, ctx).items()}


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise CompressitError(f"--set {text}: there is no '='", "write --set limit=1000")
    problems: list[Problem] = []
    node = parse_value(value, Mark(f"--set {text}"), problems)
    if problems:
        raise RecipeError(problems)
    return name, node.plain()
