"""Data given from Python: a dataset by its name, or your own tensors, torch Datasets and DataLoaders."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.config import dump
from compressit.datasets.options import DataConfig, input_fault
from compressit.datasets.specs import Inputs, as_inputs
from compressit.datasets.task_spec import TaskSpec, usual_task
from compressit.errors import CompressitError
from compressit.paths import default_cache
from compressit.python.arguments import create, plain, posed_as
from compressit.recipe.validation import checked

if TYPE_CHECKING:
    from torch import Tensor

    from compressit.datasets.splits import Data


def data(
    name: str | None = None,
    *,
    train: Any = None,
    test: Any = None,
    validation: Any = None,
    train_plain: Any = None,
    class_names: Sequence[str] | None = None,
    inputs: Inputs | Sequence[int] | None = None,
    task: TaskSpec | Mapping[str, Any] | str | None = None,
    device: str = "cpu",
    announce: Callable[[str], None] = print,
    **options: Any,
) -> Data:
    """The splits of a dataset, or of your own data.

    `compressit.data("data.mnist", limit=10000)` gives an installed dataset. `compressit.data(train=…, test=…)` takes
    what you have: (inputs, labels) as tensors or NumPy arrays, whose memory is used where torch can, a map-style torch
    Dataset of such pairs, or a DataLoader, of which its dataset and number of workers count. Inputs are one tensor, or
    a tuple, list or dict of them: uint8 in 0..255, floats in 0..1, whole numbers or bool. `inputs`, a TensorSpec or
    several, says so, and allows floats of another range.

    `task`: a task plugin's name, a mapping of `uses` and `with` as in a recipe, or a TaskSpec; by default what the
    dataset poses. Of your own data that is what their targets look like: whole numbers (N,) from 0 are classes,
    (N, labels) of 0 and 1 several labels, (N, H, W) the classes of pixels, floats (N,) or (N, outputs) a regression's.
    `train_plain`: the examples of `train` without its random transforms; then `train` is read anew each epoch.
    `class_names`: of classes, labels or outputs, in order; by default "0", "1" …, as many as there are. `options`:
    those of every dataset (`scale`, `augment`, `limit` …); `validation` is a split of your own, or as an option the
    size of one to cut. `device`: "cpu", "cuda" or "auto".

    Raises CompressitError for arguments of another type, examples that are none, and options that do not fit them.
    """
    from compressit.contract.compute import Compute
    from compressit.contract.kinds import Dataset
    from compressit.datasets.origin import Origin
    from compressit.host.plugins import installed
    from compressit.running.loading import load_data

    _check(name, class_names, announce)
    device = Compute.select(str(device)).device
    given = {"train": train, "test": test, "validation": validation, "train_plain": train_plain}
    if name is not None:  # a dataset's options may have these names too
        others = {**given, "inputs": inputs, "class_names": class_names}
        options |= {key: value for key, value in others.items() if value is not None}
        dataset = create(Dataset, name, plain(name, options))
        posed = posed_as(task, dataset.task, name)
        found = load_data(dataset, installed().task(posed), default_cache(), announce, device)
        resolved = dump(dataset.config)  # with absolute paths
        written = None if task is None else {"uses": posed.uses, "with": posed.options}
        origin = Origin(name, {option: resolved[option] for option in options}, written, found.held)
        return replace(found, origin=origin)
    if train is None:
        raise CompressitError("compressit.data takes a dataset's name, or train=", "give one of the two")
    if isinstance(validation, int | float):
        options["validation"], given["validation"] = validation, None
    declared = None if inputs is None else as_inputs(inputs)
    return _own(given, class_names, declared, task, device, announce, options)


def _check(name: object, class_names: Any, announce: object) -> None:
    """Raises CompressitError for arguments that are no dataset's name, no names, and nothing to call."""
    if not isinstance(name, str | None):
        raise CompressitError(
            f"compressit.data takes a dataset's name, not a {type(name).__name__}",
            'compressit.data("data.mnist"); or, for examples of your own, train=(inputs, labels)',
        )
    listed = isinstance(class_names, Sequence) and not isinstance(class_names, str | bytes)
    if class_names is not None and not (listed and all(isinstance(each, str) for each in class_names)):
        raise CompressitError(f"class_names are {class_names!r:.80}", 'give texts in order: ["cat", "dog"]')
    if not callable(announce):
        raise CompressitError(
            f"announce= takes a function, not a {type(announce).__name__}",
            "announce=print shows what is said",
        )


def _own(
    given: dict[str, Any],
    class_names: Sequence[str] | None,
    inputs: Inputs | None,
    task: TaskSpec | Mapping[str, Any] | str | None,
    device: str,
    announce: Callable[[str], None],
    options: dict[str, Any],
) -> Data:
    from compressit.datasets.conforming import conformed, inferred
    from compressit.datasets.origin import Origin
    from compressit.datasets.sources import Sources, retargeted, targets_of
    from compressit.datasets.stored import Stored
    from compressit.host.plugins import installed
    from compressit.running.loading import posing, readable

    workers = max(_workers(examples) for examples in given.values())
    chosen = {"workers": workers, **plain("data", options)}
    config = checked(DataConfig, chosen, "data")
    sources = Sources(**{name: _examples(examples) for name, examples in given.items()})
    files = default_cache() / "examples"
    files.mkdir(parents=True, exist_ok=True)

    def folder(split: str) -> Path:
        return Path(tempfile.mkdtemp(prefix="python-", dir=files))

    sources = readable("data", sources, folder, config.workers, announce, inputs=inputs)
    inputs = inputs if inputs is not None else inferred(sources)
    sources = given_sources = conformed(sources, inputs, "data")
    targets = [targets_of(examples) for examples in sources.given().values()]
    posing_as = installed().task(_posed(targets, class_names, task))
    if (fault := input_fault(config, inputs, posing_as.target)) is not None:
        raise CompressitError(f"data: {fault[0]} {fault[1]}")
    sources = retargeted(sources, "data", posing_as.targets)
    for examples in sources.given().values():
        file = getattr(examples, "plain", examples)  # goes with the last split that reads it
        if isinstance(file, Stored):
            weakref.finalize(file, shutil.rmtree, file.file.parent, ignore_errors=True)
    found = posing(posing_as, sources, config, device, inputs=inputs)
    for doubt in found.doubts:
        announce(f"warning: {doubt}")
    return replace(found, origin=Origin("", chosen, None, found.held, given_sources, inputs))


def _posed(
    targets: Sequence[Tensor], names: Sequence[str] | None, task: TaskSpec | Mapping[str, Any] | str | None
) -> TaskSpec:
    """What these targets (N, ...), of each split, pose: as `task` says, else what they look like."""
    from compressit.host.plugins import installed

    first = targets[0]
    usual = usual_task(not (first.is_floating_point() or first.is_complex()), first.shape)
    posed = posed_as(task, TaskSpec(usual, 1), "data", own=True)
    if isinstance(task, TaskSpec):
        return posed
    asked = installed().task(posed)
    if asked.target == "vector":
        outputs = first.shape[1] if first.ndim > 1 else 1
    else:
        labels = [y if asked.ignored is None else y[y != asked.ignored] for y in targets]
        outputs = len(names or ()) or 1 + max(max(int(y.max()), 0) for y in labels if y.numel())
    return posed_as(replace(posed, outputs=outputs, names=tuple(names or ())), posed, "data")


def _examples(given: Any) -> Any:
    """What a DataLoader loads; pairs with arrays as tensors, and listed inputs as a tuple; else what is given."""
    from torch.utils.data import DataLoader

    if isinstance(given, DataLoader):
        return given.dataset
    if not (isinstance(given, tuple | list) and len(given) == 2):
        return given
    x, y = given
    if isinstance(x, Mapping):
        return {name: _tensor(each, "inputs") for name, each in x.items()}, _tensor(y, "targets")
    several = isinstance(x, tuple | list)
    return tuple(_tensor(each, "inputs") for each in x) if several else _tensor(x, "inputs"), _tensor(
        y, "targets"
    )


def _tensor(given: Any, called: str) -> Any:
    """An array as a tensor, else what is given. Arrays that torch cannot share are copied: those that may not be
    written to, run backwards, or are of a type that it has not. Raises CompressitError for those of no numbers."""
    import numpy as np
    import torch

    if not isinstance(given, np.ndarray):
        return given
    if given.dtype.kind not in "biuf":
        raise CompressitError(
            f"the data's {called} are an array of {given.dtype}, not of numbers",
            "give numbers: class labels count from 0",
        )
    kind, size = given.dtype.kind, given.dtype.itemsize
    wide = {"u": size > 1, "f": size > 8}.get(kind, False)  # torch has no more, or computes little with them
    native = np.dtype(np.int64 if kind == "u" else np.float64) if wide else given.dtype.newbyteorder("=")
    shared = given.flags.writeable and native == given.dtype and min(given.strides, default=0) >= 0
    return torch.from_numpy(given if shared else given.astype(native, order="C", copy=True))


def _workers(given: Any) -> int:
    from torch.utils.data import DataLoader

    return given.num_workers if isinstance(given, DataLoader) else 0
