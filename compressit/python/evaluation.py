"""Measures a model or a checkpoint file on a dataset, without a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.checkpoint.starting import Offer, check_fits
from compressit.contract.kinds import Dataset, Evaluator
from compressit.contract.tasks import Task
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import CompressitError
from compressit.files.reading import checkpoint_file
from compressit.host.plugins import Host, installed
from compressit.python.arguments import blaming, check_does, check_net, create, model_for, posed_as
from compressit.python.data import data as data_of
from compressit.recipe.settings import options_of

if TYPE_CHECKING:
    from torch import nn

    from compressit.datasets.splits import Data

USUAL = ("eval.accuracy", "eval.size")
"""The default evaluators; of another task than classification eval.scores instead of the first."""


def evaluate(
    model: nn.Module | Path | str, data: Data | str, *evaluators: str, limited: bool = True
) -> dict[str, float]:
    """Metrics by name: `compressit.evaluate(net, compressit.data("data.mnist"), "eval.accuracy")`.

    `model`: a net, which is not changed, or a checkpoint's path. `data`: the result of `compressit.data`, used as it
    is, or a dataset's name; then a checkpoint's inputs are scaled as in its training. `evaluators`: by default
    eval.accuracy, or for another task than classification eval.scores, and eval.size. `limited`: building a
    checkpoint's model and running it on two inputs is limited in memory and time, by the file's size. Runs on the
    device of the data. Raises CompressitError for data that do not fit and for an evaluator that judges a recipe's
    stage.
    """
    from compressit.contract.nets import copied, unwrapped

    if isinstance(model, str | Path):
        path = checkpoint_file(model)
        if isinstance(data, str):
            return evaluate_file(path, data, (), evaluators, installed(), print, limited)
        model = model_for(path, data, installed(), limited)
    check_net(model, "evaluate")
    model = unwrapped(model)
    fed = data_of(data) if isinstance(data, str) else data
    task = installed().task(fed.task)
    plugins = _evaluators(evaluators, task, installed())
    with blaming(model, fed):
        return _measured(copied(model), fed, task, plugins)


def evaluate_file(
    path: Path,
    data: str,
    settings: Sequence[str],
    evaluators: Sequence[str],
    host: Host,
    announce: Callable[[str], None] = lambda text: None,
    limited: bool = True,
) -> dict[str, float]:
    """Metrics of all evaluators by name; of the usual ones if none is named.

    `settings`: options of the dataset as `name=value`. Unless they set `scale`, inputs are scaled as the
    checkpoint's input contract says, with the mean and deviation of its training. `announce` is called for
    downloads, and for a scale that differs from the training's. `limited`: as for `evaluate`.
    Raises CompressitError if the data do not fit the model, for an option the dataset does not have, and for an
    evaluator that judges a recipe's stage.
    """
    from compressit.checkpoint import model as checkpoint
    from compressit.contract.compute import Compute
    from compressit.paths import default_cache
    from compressit.running.loading import load_data

    options = options_of(settings)
    dataset = create(Dataset, data, options, host)
    offer = Offer.of(dataset)  # scaled as the file says, or as asked for (announced below)
    made = checkpoint.task_of(path)
    task = host.task(posed_as(_as_made(made, dataset.task, host), dataset.task, data, host=host))
    plugins = _evaluators(evaluators, task, host)
    contract = checkpoint.contract_of(path)
    check_fits(path, replace(offer, scale=contract.scale) if contract else offer, host)
    model = checkpoint.load_to_run(path, host, limited)
    if contract is not None and options.get("scale", contract.scale) != contract.scale:
        announce(
            f"{path} was trained on inputs of scale {contract.scale}, but is measured on {options['scale']}"
        )
    like = contract if "scale" not in options else None
    given = load_data(dataset, task, default_cache(), announce, Compute.select("auto").device, like)
    return _measured(model, given, task, plugins)


def _as_made(made: TaskSpec | None, posed: TaskSpec, host: Host) -> TaskSpec | None:
    """The task that a checkpoint was made for, if it is one for what the data pose: it is measured with its options."""
    if made is None or made.uses not in host.names("task"):
        return None
    kind: Any = host.find(made.uses, "task").plugin
    fits = posed.uses in kind.does() | kind.takes and made.outputs == posed.outputs
    return replace(posed, uses=made.uses, options=made.options) if fits else None


def _evaluators(names: Sequence[str], task: Task[Any], host: Host) -> list[Evaluator[Any]]:
    """By their names, or the usual ones. Raises CompressitError for one that is not for this task."""
    usual = USUAL if CLASSIFICATION in task.does() else ("eval.scores", *USUAL[1:])
    plugins = [host.create(Evaluator, name, {}) for name in names or usual]
    for plugin in plugins:
        check_does(plugin, task)
        if plugin.uses_stage:
            raise CompressitError(
                f"{plugin.name} judges a stage of a recipe, not a single model", "use it in a recipe"
            )
    return plugins


def _measured(
    model: nn.Module, data: Data, task: Task[Any], plugins: Sequence[Evaluator[Any]]
) -> dict[str, float]:
    from compressit.contract.compute import Compute
    from compressit.running.apply import measure_with
    from compressit.running.inputs import Inputs
    from compressit.seeds import Streams

    compute = Compute.select(data.train.y.device.type)
    inputs = Inputs(installed(), compute, lambda: data, lambda ref: model, task.measuring())
    found: dict[str, float] = {}
    for plugin in plugins:
        ctx = replace(inputs, model=partial(_only, model, plugin.name)).context(Streams(0))
        found |= measure_with(plugin, ctx.model("model"), ctx)
    return found


def _only(model: nn.Module, name: str, ref: str) -> nn.Module:
    """The model, if `ref` is the evaluators' name for it."""
    if ref == "model":
        return model
    raise CompressitError(
        f"{name} compares the model with another model, '{ref}', which only a recipe has",
        "use it in a recipe, where models have names",
    )
