"""Checks of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compressit.config import parse
from compressit.contract.context import DataContext
from compressit.datasets.batched import InputTensors, tensors_of
from compressit.datasets.conforming import conformed
from compressit.datasets.sources import CALLED, Sources
from compressit.datasets.specs import Inputs, TensorSpec, as_inputs, specs_of
from compressit.datasets.streamed import items
from compressit.errors import CompressitError
from compressit.paths import default_cache
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.subject import Subject
from compressit.testing.watch import differing, quiet_place

HOST_OPTIONS: Mapping[str, Any] = {
    "limit": 7, "scale": "standard", "augment": ["flip"], "labels": "random", "pixels": "shuffled", "validation": 0.5,
    "workers": 1, "seed": 1,
}  # fmt: skip
"""Options that the host applies, each with a value other than the default."""
SOME = 64  # items of a torch Dataset that are looked at


@check("dataset")
def loads(subject: Subject) -> None:
    """It loads its splits: tensors, or torch Datasets of such items."""
    raw = _loaded(subject)
    if not isinstance(raw, Sources):
        raise ConformanceError(
            f"it loaded {type(raw).__name__}, not Sources", "return compressit.Sources(train=…, test=…)"
        )


@check("dataset", needs=[loads])
def as_declared(subject: Subject) -> None:
    """Inputs (shapes, types, ranges), targets, names of classes or outputs, and training size are as it declares."""
    dataset, loaded = subject.create(), _loaded(subject)
    inputs, posed = as_inputs(dataset.inputs), dataset.task
    task = subject.host.task(posed)
    examples = _examples(loaded, inputs)
    try:
        conformed(Sources(**examples), inputs, "it")
    except CompressitError as error:
        raise ConformanceError(error.message, error.hint) from error
    for name, (_, y) in examples.items():
        try:
            task.targets(y)
        except CompressitError as error:
            raise ConformanceError(f"its {CALLED[name]} {error.message}", error.hint) from error
    if len(posed.names) != posed.outputs:
        raise ConformanceError(f"it has {len(posed.names)} names for {posed.outputs} classes or outputs")
    count = len(loaded.train[1] if isinstance(loaded.train, tuple) else loaded.train)
    if dataset.train_size not in (None, count):
        raise ConformanceError(
            f"it has {count} training inputs, but declares {dataset.train_size}",
            "return None if the number is unknown before loading",
        )


@check("dataset", needs=[loads])
def same_twice(subject: Subject) -> None:
    """Loading it twice gives the same tensors and fingerprint."""
    names = differing(_tensors(subject, _loaded(subject)), _tensors(subject, _load(subject, {})))
    none_found(
        names, "loading it twice gives different tensors", "draw from compressit.seeds.Streams(0, name)"
    )
    one, other = (subject.create().fingerprint() for _ in range(2))
    if not isinstance(one, str) or one != other:
        raise ConformanceError(
            f"its fingerprint is {one!r}, then {other!r}", "return a digest of the files, or a version"
        )


@check("dataset", needs=[same_twice])
def leaves_host_options(subject: Subject) -> None:
    """It leaves limit, scale, labels, pixels and validation to the host."""
    none_found(
        differing(_tensors(subject, _loaded(subject)), _tensors(subject, _load(subject, HOST_OPTIONS))),
        f"with {', '.join(HOST_OPTIONS)} set, it loads different tensors",
        "load the whole dataset unchanged; the host applies DataConfig's options afterwards",
    )


def _examples(loaded: Sources, inputs: Inputs) -> dict[str, tuple[InputTensors, Tensor]]:
    """Inputs and targets of each split; of a torch Dataset those of its first SOME items."""

    def of(examples: Any) -> tuple[InputTensors, Tensor]:
        if isinstance(examples, tuple):
            return examples
        places = [[(index, 0) for index in range(min(SOME, len(examples)))]]
        read = next(items(examples, places, 0, "it", inputs))
        assert read.inputs is not None, "all of them were left out"
        return read.inputs, read.targets

    return {name: of(examples) for name, examples in loaded.given().items()}


def _tensors(subject: Subject, loaded: Sources) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    inputs = as_inputs(subject.create().inputs)  # type: ignore[attr-defined]
    for name, (x, y) in _examples(loaded, inputs).items():
        names = ["inputs"] if isinstance(inputs, TensorSpec) else [f"inputs {at}" for at in specs_of(inputs)]
        found |= {f"{name} {at}": tensor for at, tensor in zip(names, tensors_of(x), strict=True)}
        found[f"{name} targets"] = y
    return found


def _loaded(subject: Subject) -> Any:
    return subject.keep("loaded", lambda: _load(subject, {}))


def _load(subject: Subject, options: Mapping[str, Any]) -> Any:
    dataset: Any = subject.plugin(parse(subject.plugin.Config, {**subject.options, **options}))
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with quiet_place(subject), torch.random.fork_rng():
        torch.seed()  # a dataset must not rely on a seed
        return dataset.load(DataContext(cache, lambda text: None))
