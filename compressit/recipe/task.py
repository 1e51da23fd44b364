"""`task`: what the data pose, or what the recipe makes of it; and who does such a task."""

from __future__ import annotations

from typing import Any, cast

from compressit.config import dump
from compressit.contract.kinds import Dataset, ForTasks
from compressit.contract.plugin import Plugin
from compressit.contract.records import Metric
from compressit.contract.tasks import Task, answering
from compressit.datasets.options import input_fault
from compressit.datasets.specs import as_inputs
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import FOREIGN, CompressitError, Mark, told
from compressit.host.declared import declaration_fault
from compressit.recipe.envelope import TaskBlock
from compressit.recipe.merge import merge
from compressit.recipe.model import Use
from compressit.recipe.scope import Scope
from compressit.recipe.validation import place_of, tree, validate
from compressit.recipe.yamlfile import Node

_BUG = "this is a bug in the plugin, not in the recipe"


def read_task(node: Node, data: Use, given: Node, scope: Scope) -> Use | None:
    """The recipe's task (`node`), or the one that the dataset poses; None for a mistake, which is noted. `given`: the
    block of the data."""
    dataset = cast("Dataset[Any]", data.plugin)
    posed = dataset.task
    written = node.at("uses")
    block = Node({**node.mapping, "with": node.at("with")}, node.mark, node.keys)
    if block.at("with").value is None:
        block = Node({**block.mapping, "with": Node({}, node.mark)}, node.mark, node.keys)
    if validate(TaskBlock, block, "task", scope.problems) is None:
        return None
    name = str(written.value or posed.uses)
    path, mark = ("task.uses", written.mark) if written.value else ("data.uses", given.at("uses").mark)
    try:
        kind = cast("type[Task[Any]]", scope.host.find(name, "task").plugin)
        answering(kind, posed, dataset.name)
    except CompressitError as error:
        if scope.complete or name in scope.host.names():
            scope.problem(f"{path}: {error.message}", mark, error.hint)
        return None
    options = block.at("with")
    if posed.uses == name:  # the dataset's own options hold unless the recipe says otherwise
        options = merge(tree(posed.options, mark), options)
    config = validate(kind.Config, options, "task.with", scope.problems)
    if config is None:
        return None
    task = kind(config, TaskSpec(name, posed.outputs, posed.names, dump(config)))
    fits = _fits(task, data, options, given, mark, scope)
    return Use(task) if fits else None


def _fits(task: Task[Any], data: Use, options: Node, given: Node, mark: Mark, scope: Scope) -> bool:
    """Whether the task's options fit what is posed, and those of the data its targets; else the mistake is noted."""
    before = len(scope.problems)
    try:
        misfits = task.misfits()
        fault = declaration_fault(f"`measures` of {task.name}", measures := task.measures(), Metric)
        if fault is None and task.watch not in measures:
            fault = (
                f"`watch` of {task.name} is '{task.watch}', which is none of its measures",
                "name one of them",
            )
        if fault is not None:
            scope.problem(f"task: {fault[0]}", mark, fault[1])
    except FOREIGN as error:  # third-party code
        scope.problem(f"task: {task.name} fails: {told(error)}", mark, _BUG)
        return False
    for option, why in misfits.items():
        scope.problem(f"task.with.{option} {why}", place_of(options, (option,)))
    dataset = cast("Dataset[Any]", data.plugin)
    wrong = input_fault(dataset.config, as_inputs(dataset.inputs), task.target)
    if wrong is not None:
        option, why = wrong
        scope.problem(f"data.with.{option} {why}", given.at("with").at(option).mark)
    return len(scope.problems) == before


def check_does(plugin: Plugin[Any], path: str, options: Node, mark: Mark, scope: Scope) -> None:
    """Notes a mistake if the plugin, or its options, are not for any of the recipe's tasks."""
    if not isinstance(plugin, ForTasks) or not scope.tasks:
        return
    doing = [task for task in scope.tasks if plugin.tasks is None or task.does() & plugin.tasks]
    if not doing:
        names = " and ".join(dict.fromkeys(task.name for task in scope.tasks))
        message = (
            f"{path}.uses: {plugin.name} is for {' and '.join(sorted(plugin.tasks or ()))}, not for {names}"
        )
        scope.problem(message, mark, "use one for this task, or set the recipe's `task`")
        return
    try:
        misfits = plugin.misfits(doing[0])
    except FOREIGN as error:  # third-party code
        scope.problem(f"{path}: `misfits` of {plugin.name} fails: {told(error)}", mark)
        return
    for option, why in misfits.items():
        scope.problem(f"{path}.with.{option} {why}", place_of(options, tuple(option.split("."))))
