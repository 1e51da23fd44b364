"""Checks of tasks, on made-up outputs and targets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compressit.contract.records import Metric
from compressit.contract.tasks import Task
from compressit.datasets.task_spec import TaskSpec
from compressit.host.declared import declaration_fault
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.subject import Subject

EXAMPLES, OUTPUTS, SIDE = 12, 4, 3


@check("task")
def measures_described(subject: Subject) -> None:
    """Every measure has a unit, a direction and a description, and `watch` is one of them with a direction."""
    task = _task(subject)
    measures = task.measures()
    if fault := declaration_fault("`measures`", measures, Metric):
        raise ConformanceError(*fault)
    none_found((name for name, metric in measures.items() if not metric.about.strip()), "no description")
    watched = measures.get(task.watch)
    if watched is None or watched.better == "neither":
        raise ConformanceError(
            f"`watch` is '{task.watch}', which early stopping cannot follow",
            "name one of `measures` that is better higher, or lower",
        )


@check("task")
def takes_targets(subject: Subject) -> None:
    """It takes targets of its kind, and taking them again changes nothing."""
    task = _task(subject)
    targets = _targets(task)
    if not torch.equal(task.targets(targets), targets):
        raise ConformanceError("`targets` changes the targets that it gave")


@check("task", needs=[takes_targets])
def loss_of_each_example(subject: Subject) -> None:
    """The loss is one finite number for each example, and what trainings minimise has a finite gradient."""
    task = _task(subject)
    targets = _targets(task)
    outputs = _outputs(task).requires_grad_()
    values = task.loss(outputs, targets)
    if tuple(values.shape) != (EXAMPLES,):
        raise ConformanceError(
            f"`loss` gives {tuple(values.shape)} for {EXAMPLES} examples",
            "give (N,), without a mean over examples",
        )
    objective = task.objective(targets)(outputs, targets)
    if objective.ndim or not bool(torch.isfinite(torch.cat([values, objective[None]])).all()):
        raise ConformanceError(f"the loss is {objective.tolist()}, of examples {values.tolist()}")
    (gradient,) = torch.autograd.grad(objective, outputs)
    if not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        raise ConformanceError("the loss has no finite gradient, or none but zero")


@check("task", needs=[loss_of_each_example])
def learns_from_a_teacher(subject: Subject) -> None:
    """The distance to a teacher has a finite gradient, and is smallest for its own outputs."""
    task = _task(subject)
    taught, outputs = _outputs(task), _outputs(task, seed=1).requires_grad_()
    for match in ("kl", "logits") if task.logits else ("kl",):
        distance = task.distance(outputs, taught, match, 2.0)
        if distance.ndim:
            raise ConformanceError(f"`distance` gives {tuple(distance.shape)}, no scalar", "take the mean")
        (gradient,) = torch.autograd.grad(distance, outputs)
        if not bool(gradient.isfinite().all()):
            raise ConformanceError("the gradient of `distance` is not finite")
        if not float(task.distance(taught, taught, match, 2.0)) < float(distance.detach()):
            raise ConformanceError("the teacher's own outputs are not closer to it than others")


@check("task", needs=[measures_described, takes_targets])
def scores_declared(subject: Subject) -> None:
    """It scores what it declares, with finite numbers, the same each time; a model agrees most with itself."""
    task = _task(subject)
    outputs, targets = _outputs(task), _targets(task)
    scores = dict(task.scores(outputs, targets))
    none_found(
        scores.keys() - task.measures().keys(), "scores that it does not declare", "add them to `measures`"
    )
    none_found((n for n, value in scores.items() if not math.isfinite(value)), "scores that are not finite")
    if scores != dict(task.scores(outputs, targets)):
        raise ConformanceError("scoring twice gives different numbers")
    if task.watch not in scores:
        raise ConformanceError(f"it gives no '{task.watch}', which it watches")
    if not task.agreement(_outputs(task, seed=1), outputs) < task.agreement(outputs, outputs):
        raise ConformanceError("`agreement` is not largest for the same outputs")


def _task(subject: Subject) -> Task[Any]:
    return subject.plugin(subject.config, TaskSpec(subject.name, OUTPUTS))  # type: ignore[call-arg, return-value]


def _outputs(task: Task[Any], seed: int = 0) -> Tensor:
    shape = (EXAMPLES, OUTPUTS, SIDE, SIDE) if task.target == "map" else (EXAMPLES, OUTPUTS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _targets(task: Task[Any]) -> Tensor:
    """Every class, or both 0 and 1 of every number."""
    if task.target == "class":
        return torch.arange(EXAMPLES) % OUTPUTS
    if task.target == "map":
        return torch.arange(EXAMPLES * SIDE**2).view(EXAMPLES, SIDE, SIDE) % OUTPUTS
    return (torch.arange(EXAMPLES)[:, None] // (torch.arange(OUTPUTS) + 1) % 2).float()
