"""The int8 file of a checkpoint: made with training data, judged on test data, and refused if it loses too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressit.checkpoint.model import contract_of, task_of
from compressit.checkpoint.starting import Offer, check_fits
from compressit.contract.kinds import Dataset
from compressit.contract.tasks import Task
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.exporting.int8 import quantised
from compressit.exporting.int8_scores import int8_scores
from compressit.exporting.onnx import converted
from compressit.exporting.onnxnet import check_packages
from compressit.exporting.subject import Subject
from compressit.files.writing import replace as write_file
from compressit.host.plugins import Host, installed
from compressit.paths import default_cache
from compressit.python.arguments import create, posed_as
from compressit.python.evaluation import as_made
from compressit.recipe.settings import options_of
from compressit.running.loading import load_data

USUAL_DROP = 0.01
"""Of a score that is a fraction, without `max_drop`."""


class TooLossyError(CompressitError):
    """The int8 file loses more than it may. Nothing was written."""

    exit_code = 1


@dataclass(frozen=True)
class Order:
    """What was asked for: `compressit.export`'s arguments."""

    data: Data | str
    settings: Sequence[str]
    images: int
    max_drop: float | None
    announce: Callable[[str], None]


def write(subject: Subject, target: Path, order: Order, host: Host | None = None) -> None:
    """Writes the int8 file, and announces its scores. Raises CompressitError, without a file, if it loses too much."""
    check_packages()
    data, task = _data(subject.path, order, host or installed())
    net, test = converted(subject), data.split("test")
    small = quantised(net, data.train, order.images)
    found = int8_scores(net.outputs(test), small, test, task)
    order.announce(str(found))
    allowed = (
        order.max_drop if order.max_drop is not None else USUAL_DROP if found.unit == "fraction" else None
    )
    if allowed is not None and not found.drop <= allowed + 1e-9:  # two of 200 are one point
        shown = f"{100 * allowed:g} points" if found.unit == "fraction" else f"{allowed:g}"
        raise TooLossyError(
            f"in int8 it loses {found.shown_drop()} of its test {found.metric.replace('_', ' ')}, "
            f"more than the {shown} allowed",
            "give more --images, allow more with --max-drop, or export it without --int8",
        )
    write_file(target, small.content)


def _data(path: Path, order: Order, host: Host) -> tuple[Data, Task[Any]]:
    """The data, prepared as those of the model's training, and the model's task."""
    contract, made = contract_of(path), task_of(path)
    if not isinstance(order.data, str):
        given = order.data.contract
        names, task = tuple(given.class_names), order.data.task.uses
        offer = Offer("the data", given.inputs, order.data.classes, names, given.scale, task=task)
        check_fits(path, offer, host)
        if contract is not None and (contract.mean, contract.std) != (given.mean, given.std):
            raise CompressitError(
                "the data have another mean and deviation than those of the model's training",
                'name the dataset, int8="data.mnist": then it is prepared as in that training',
            )
        return order.data, host.task(order.data.task).measuring()
    dataset = create(Dataset, order.data, options_of(order.settings), host)
    task = host.task(posed_as(as_made(made, dataset.task, host), dataset.task, order.data, host=host))
    offer = Offer.of(dataset)
    check_fits(path, replace(offer, scale=contract.scale) if contract else offer, host)
    return load_data(dataset, task, default_cache(), order.announce, "cpu", contract), task.measuring()
