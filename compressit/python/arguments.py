"""Arguments given from Python: nets, data and options, checked as those of a recipe are."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from compressit.checkpoint.starting import Offer, check_fits
from compressit.config import absolute, dump
from compressit.contract.kinds import ForTasks
from compressit.contract.plugin import Plugin
from compressit.contract.tasks import Task, answering
from compressit.datasets.specs import in_words
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import CompressitError, Mark
from compressit.host.plugins import KINDS, Host, installed
from compressit.recipe.scope import Scope
from compressit.recipe.uses import with_models
from compressit.recipe.validation import checked, several, tree

P = TypeVar("P", bound=Plugin[Any])

if TYPE_CHECKING:
    from torch import nn

    from compressit.checkpoint.manifest import Architecture
    from compressit.datasets.splits import Data


def model_for(path: Path, data: Data, host: Host, limited: bool = True) -> nn.Module:
    """The model of a checkpoint file, for inputs of these data. Raises CompressitError if the two do not fit."""
    from compressit.checkpoint import model as checkpoint
    from compressit.datasets.rescaling import fed

    check_fits(path, _offer(data), host)
    return fed(checkpoint.load_to_run(path, host, limited), checkpoint.contract_of(path), data.contract)


def student_of(path: Path, data: Data, host: Host) -> tuple[nn.Module, Architecture | None]:
    """The model of a checkpoint file with its architecture, to be trained on these data as they are scaled. Raises
    CompressitError if the two do not fit."""
    from compressit.checkpoint import model as checkpoint

    check_fits(path, _offer(data), host)
    return checkpoint.load_to_run(path, host), checkpoint.architecture_of(path)


def _offer(data: Data) -> Offer:
    given = data.contract
    return Offer(
        "the data", given.inputs, data.classes, tuple(given.class_names), given.scale, task=data.task.uses
    )


def create(kind: type[P], name: str, options: Mapping[str, Any], host: Host | None = None) -> P:
    """The plugin with these options. Raises CompressitError for invalid options."""
    label = next(label for label, base in KINDS.items() if base is kind)
    plugin = (host or installed()).find(name, label).plugin
    config = checked(plugin.Config, options, name)
    scope = Scope(host or installed(), Path.cwd(), [])
    found = with_models(config, tree(options, Mark(name)), name, scope)
    if found is None:
        raise several(scope.problems)
    return plugin(absolute(found, lambda _: scope.folder))  # type: ignore[return-value]


def posed_as(
    given: TaskSpec | Mapping[str, Any] | str | None,
    posed: TaskSpec,
    data: str,
    own: bool = False,
    host: Host | None = None,
) -> TaskSpec:
    """What data that pose `posed` pose with the task `given` from Python: a name, `uses` and `with`, or all of it.

    `own`: `posed` is only what the user's targets look like, and how many outputs there are is not known yet.
    Raises CompressitError for an unknown task, one that does not fit the data, and invalid options.
    """
    host = host or installed()
    if not isinstance(given, str | Mapping | TaskSpec | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"{data}: the task is a {type(given).__name__}", "give a task's name, a mapping or a TaskSpec"
        )
    if isinstance(given, str | Mapping) or given is None:
        block: Mapping[str, Any] = {"uses": given} if isinstance(given, str) else given or {}
        if others := sorted(set(block) - {"uses", "with"}):
            raise CompressitError(f"{data}: task has '{others[0]}'", "give `uses`, and options under `with`")
        uses, options = block.get("uses") or posed.uses, block.get("with") or {}
        if not (isinstance(uses, str) and isinstance(options, Mapping)):
            raise CompressitError(
                f"{data}: the task is {dict(block)!r:.80}",
                "`uses` is a task's name, `with` a mapping of options",
            )
        theirs = posed.options if uses == posed.uses else {}
        given = replace(posed, uses=uses, options={**theirs, **plain(uses, options)})
        kind: Any = host.find(uses, "task").plugin
        if not own:
            answering(kind, posed, data)
    kind = host.find(given.uses, "task").plugin
    made = kind(checked(kind.Config, plain(given.uses, given.options), given.uses), given)
    for option, why in made.misfits().items() if not own else ():
        raise CompressitError(f"{data}: {option} of {given.uses} {why}", "change the option")
    return replace(given, options=dump(made.config))


def check_does(plugin: ForTasks[Any], task: Task[Any]) -> None:
    """Raises CompressitError if the plugin is not for this task."""
    if plugin.tasks is not None and not task.does() & plugin.tasks:
        raise CompressitError(
            f"{plugin.name} is for {' and '.join(sorted(plugin.tasks))}, not for {task.name}, which the data pose",
            "use one for this task",
        )


def plain(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON values; a path becomes text. Raises CompressitError for a value that JSON cannot hold."""
    found: dict[str, Any] = {}
    for option, value in options.items():
        try:
            found[option] = json.loads(json.dumps(value, default=os.fspath))
        except (TypeError, ValueError) as error:
            shown = " ".join(repr(value).split())  # a tensor's may be long
            raise CompressitError(
                f"{name}: {option}={shown:.60}{'…' if len(shown) > 60 else ''} is not a plain value",
                "give a number, text, a list or a dict",
            ) from error
    return found


def check_net(value: object, place: str) -> None:
    """Raises CompressitError if `value` is not an nn.Module. `place`: what takes it, for the message."""
    from torch import nn

    if isinstance(value, type) and issubclass(value, nn.Module):
        hint = f"build one: {value.__name__}(…)"
        raise CompressitError(f"{place} takes a net, and {value.__name__} is a class", hint)
    if not isinstance(value, nn.Module):
        given = f"'{value}'" if isinstance(value, str) else f"a {type(value).__name__}"
        raise CompressitError(f"{place} takes a net, not {given}", "a net is a torch.nn.Module")


def check_data(value: object) -> None:
    """Raises CompressitError if `value` is neither the result of `compressit.data` nor a dataset's name."""
    from compressit.datasets.splits import Data

    if not isinstance(value, Data | str):
        raise CompressitError(
            f"data are a {type(value).__name__}", "give compressit.data(train=…, test=…), or a dataset's name"
        )


@contextmanager
def blaming(model: nn.Module, data: Data | None) -> Generator[None]:
    """When the block raises, checks whether the cause is that the model does not fit the data.

    If so, raises CompressitError: the model does not run on such inputs, or has fewer outputs than classes.
    """
    try:
        yield
    except Exception as error:
        if data is not None:
            _check_runs(model, data, error)
        raise


def _check_runs(model: nn.Module, data: Data, cause: Exception) -> None:
    from compressit.contract.compute import Compute, precision_of
    from compressit.contract.nets import copied, fault_of, place_of

    x, net = data.train.some(2), copied(model)
    noun = "classes" if data.task.uses == CLASSIFICATION else "outputs"
    hint = f"the data have inputs {in_words(data.contract.inputs)} and {data.classes} {noun}: build a net for them"
    device = data.train.y.device
    try:
        outputs = Compute(device.type, precision_of(net)).forward(net.to(device), x)
    except Exception as error:
        if (fault := fault_of(net, x)) is not None:
            raise fault from cause
        if isinstance(cause, CompressitError):
            return
        if isinstance(error, CompressitError):
            raise error from cause
        why = f"the net does not run on the data: {place_of(error, net)}{error}"
        raise CompressitError(why, hint) from cause
    if not isinstance(cause, CompressitError):
        try:
            installed().task(data.task).check(outputs)
        except CompressitError as fault:
            raise CompressitError(fault.message, f"{fault.hint}; {hint}") from cause
