"""Measures a model or a checkpoint file on a dataset, without a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.checkpoint.starting import Offer, check_fits
from compressit.contract.kinds import Dataset, Evaluator
from compressit.contract.tasks import Task
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import CompressitError, did_you_mean
from compressit.files.reading import checkpoint_file
from compressit.host.plugins import Host, installed
from compressit.python.arguments import (
    blaming,
    check_data,
    check_does,
    check_net,
    create,
    model_for,
    plain,
    posed_as,
)
from compressit.python.data import data as data_of
from compressit.recipe.settings import options_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from compressit.checkpoint.manifest import Architecture
    from compressit.datasets.splits import Data

SCORES = "eval.scores"
USUAL = ("eval.accuracy", "eval.size")
"""The default evaluators; of another task than classification SCORES instead of the first."""


class Measured(dict[str, float]):
    """The metrics by name, as a dict; and what the evaluators gave besides, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: dict[str, list[tuple[float, float]]] = {}  # (x, y), all points
        self.arrays: dict[str, np.ndarray] = {}
        self.pictures: dict[str, bytes] = {}  # PNG files
        self.files: dict[str, bytes] = {}


def evaluate(
    model: nn.Module | Path | str,
    data: Data | str,
    *evaluators: str,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    limited: bool = True,
    seed: int = 0,
) -> Measured:
    """Metrics by name, with curves, arrays and pictures beside them.

    `compressit.evaluate(net, compressit.data("data.mnist"), "eval.accuracy")["test_accuracy"]`.

    `model`: a net, which is not changed, or a checkpoint's path. `data`: the result of `compressit.data`, used as it
    is, or a dataset's name; then a checkpoint's inputs are scaled as in its training. `evaluators`: by default
    eval.accuracy, or for another task than classification eval.scores, and eval.size. `options`: those of evaluators,
    by their names: `{"eval.latency": {"warmup": 3}}`. One that names a model (`ModelRef`) takes a net or the path of a
    checkpoint. `limited`: building a checkpoint's model and running it on two inputs is limited in memory and time, by
    the file's size. `seed`: an evaluator that draws gives the number that it gives in a run of that seed. Runs on the
    device of the data. Raises CompressitError for data that do not fit, wrong options, and an evaluator that judges a
    recipe's stage.
    """
    from compressit.checkpoint import model as checkpoint
    from compressit.contract.nets import copied, unwrapped

    check_data(data)
    if wrong := [name for name in evaluators if not isinstance(name, str)]:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"evaluate takes names of evaluators, not a {type(wrong[0]).__name__}",
            'write them one after another: evaluate(net, data, "eval.scores", "eval.size")',
        )
    given, names, host = options or {}, evaluators or (*USUAL, SCORES), installed()
    for unused in given.keys() - {*names}:
        raise CompressitError(f"options= has '{unused}', which is not measured", did_you_mean(unused, names))
    written, nets = _without_nets(given)
    architecture = None
    if isinstance(model, str | Path):
        path = checkpoint_file(model)
        if isinstance(data, str):
            return evaluate_file(
                path, data, (), evaluators, host, print, limited, options=written, nets=nets, seed=seed
            )
        model, architecture = model_for(path, data, host, limited), checkpoint.architecture_of(path)
    check_net(model, "evaluate")
    model = unwrapped(model)
    fed = data_of(data) if isinstance(data, str) else data
    task = host.task(fed.task)
    plugins = _evaluators(evaluators, written, task, host)
    with blaming(model, fed):
        return _measured(_Models(copied(model), architecture, nets, fed, host, limited), task, plugins, seed)


def evaluate_file(
    path: Path,
    data: str,
    settings: Sequence[str],
    evaluators: Sequence[str],
    host: Host,
    announce: Callable[[str], None] = lambda text: None,
    limited: bool = True,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    nets: Mapping[str, nn.Module] | None = None,
    seed: int = 0,
) -> Measured:
    """Metrics of all evaluators by name; of the usual ones if none is named.

    `settings`: options of the dataset as `name=value`. Unless they set `scale`, inputs are scaled as the checkpoint's
    input contract says, with the mean and deviation of its training. `options`: those of evaluators, by their names.
    `nets`: models that these name, besides files. `announce` is called for downloads, and for a scale that differs from
    the training's. `limited`, `seed`: as for `evaluate`.
    Raises CompressitError if the data do not fit the model, for an option the dataset does not have, and for an
    evaluator that judges a recipe's stage.
    """
    from compressit.checkpoint import model as checkpoint
    from compressit.contract.compute import Compute
    from compressit.paths import default_cache
    from compressit.running.loading import load_data

    asked = options_of(settings)
    dataset = create(Dataset, data, asked, host)
    offer = Offer.of(dataset)  # scaled as the file says, or as asked for (announced below)
    made = checkpoint.task_of(path)
    task = host.task(posed_as(as_made(made, dataset.task, host), dataset.task, data, host=host))
    plugins = _evaluators(evaluators, options or {}, task, host)
    contract = checkpoint.contract_of(path)
    check_fits(path, replace(offer, scale=contract.scale) if contract else offer, host)
    model = checkpoint.load_to_run(path, host, limited)
    if contract is not None and asked.get("scale", contract.scale) != contract.scale:
        announce(
            f"{path} was trained on inputs of scale {contract.scale}, but is measured on {asked['scale']}"
        )
    like = contract if "scale" not in asked else None
    given = load_data(dataset, task, default_cache(), announce, Compute.select("auto").device, like)
    built = checkpoint.architecture_of(path)
    return _measured(_Models(model, built, nets or {}, given, host, limited), task, plugins, seed)


def as_made(made: TaskSpec | None, posed: TaskSpec, host: Host) -> TaskSpec | None:
    """The task that a checkpoint was made for, if it is one for what the data pose: it is measured with its options."""
    if made is None or made.uses not in host.names("task"):
        return None
    kind: Any = host.find(made.uses, "task").plugin
    fits = posed.uses in kind.does() | kind.takes and made.outputs == posed.outputs
    return replace(posed, uses=made.uses, options=made.options) if fits else None


def _evaluators(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], task: Task[Any], host: Host
) -> list[Evaluator[Any]]:
    """By their names, or the usual ones. Raises CompressitError for one that is not for this task."""
    usual = USUAL if CLASSIFICATION in task.does() else (SCORES, *USUAL[1:])
    plugins = [create(Evaluator, name, options.get(name, {}), host) for name in names or usual]
    for plugin in plugins:
        check_does(plugin, task)
        if plugin.uses_stage:
            raise CompressitError(
                f"{plugin.name} judges a stage of a recipe, not a single model", "use it in a recipe"
            )
    return plugins


def _without_nets(
    options: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, dict[str, Any]], dict[str, nn.Module]]:
    """The options as plain values, a name in the place of each net; and the nets by these names."""
    from torch import nn

    nets = {
        f"{name}.{option}": value
        for name, given in options.items()
        for option, value in given.items()
        if isinstance(value, nn.Module)
    }
    named = {
        name: {
            option: f"{name}.{option}" if isinstance(value, nn.Module) else value
            for option, value in given.items()
        }
        for name, given in options.items()
    }
    return {name: plain(name, given) for name, given in named.items()}, nets


@dataclass(frozen=True)
class _Models:
    """The measured model, with what built it if that is known, and those that it may be compared with."""

    model: nn.Module
    architecture: Architecture | None
    nets: Mapping[str, nn.Module]  # by the name that an option has for it
    data: Data
    host: Host
    limited: bool

    def of(self, name: str, ref: str) -> nn.Module:
        """The model that the evaluator `name` asks for."""
        from compressit.contract.nets import copied, unwrapped

        if ref == "model":
            return self.model
        if ref in self.nets:
            return copied(unwrapped(self.nets[ref]))
        if ref.endswith(".safetensors"):
            return model_for(checkpoint_file(ref), self.data, self.host, self.limited)
        raise CompressitError(
            f"{name} compares the model with another model, '{ref}', which only a recipe has",
            "give the option a checkpoint's path, in Python also a net, or use it in a recipe, where models have names",
        )


def _measured(models: _Models, task: Task[Any], plugins: Sequence[Evaluator[Any]], seed: int) -> Measured:
    from compressit.contract.compute import Compute, precision_of
    from compressit.running import rng
    from compressit.running.apply import measure_with
    from compressit.running.inputs import Inputs

    data, model = models.data, models.model
    compute = Compute.select(data.train.y.device.type, precision_of(model))
    inputs = Inputs(
        models.host, compute, lambda: data, lambda ref: model, task.measuring(), models.architecture
    )
    found = Measured()
    for plugin in plugins:
        ctx = replace(inputs, model=partial(models.of, plugin.name)).context(rng.judging(seed, plugin.name))
        found.update(measure_with(plugin, ctx.model("model"), ctx))
        found.curves |= ctx.curves
        found.arrays |= ctx.arrays
        found.pictures |= ctx.pictures
        found.files |= ctx.files
    return found
