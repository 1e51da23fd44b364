"""Checks of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compressit.config import parse
from compressit.contract.context import DataContext
from compressit.datasets.splits import RawData
from compressit.paths import default_cache
from compressit.testing.check import ConformanceError, check, none_found
from compressit.testing.subject import Subject
from compressit.testing.watch import differing, quiet_place

HOST_OPTIONS: Mapping[str, Any] = {
    "limit": 7, "scale": "standard", "labels": "random", "pixels": "shuffled", "validation": 0.5, "seed": 1,
}  # fmt: skip
"""Options that the host carries out, each other than by default."""


@check("dataset")
def loads(subject: Subject) -> None:
    """It loads training and test tensors: uint8, or floats from 0 to 1."""
    raw = _loaded(subject)
    if not isinstance(raw, RawData):
        raise ConformanceError(f"it loaded {type(raw).__name__}, not RawData", "return compressit.RawData(…)")


@check("dataset", needs=[loads])
def as_declared(subject: Subject) -> None:
    """Shape, classes, class names and training size are what it says without loading."""
    dataset, raw = subject.create(), _loaded(subject)
    shape, classes = tuple(dataset.input_shape), dataset.classes
    for split, x, y in (("training", raw.train_x, raw.train_y), ("test", raw.test_x, raw.test_y)):
        if tuple(x.shape[1:]) != shape:
            raise ConformanceError(f"its {split} inputs are {tuple(x.shape[1:])}, it declares {shape}")
        least, most = int(y.min()), int(y.max())
        if least < 0 or most >= classes:
            raise ConformanceError(
                f"its {split} labels go from {least} to {most}, it declares {classes} classes"
            )
    if len(dataset.class_names) != classes:
        raise ConformanceError(f"it names {len(dataset.class_names)} of {classes} classes")
    if dataset.train_size not in (None, len(raw.train_x)):
        raise ConformanceError(
            f"it has {len(raw.train_x)} training inputs, it declares {dataset.train_size}",
            "return None where the number is not known before loading",
        )


@check("dataset", needs=[loads])
def same_twice(subject: Subject) -> None:
    """Loaded again, tensors and fingerprint are the same."""
    names = differing(vars(_loaded(subject)), vars(_load(subject, {})))
    none_found(names, "loaded twice, it gives others", "draw from compressit.seeds.Streams(0, name)")
    one, other = (subject.create().fingerprint() for _ in range(2))
    if not isinstance(one, str) or one != other:
        raise ConformanceError(
            f"its fingerprint is {one!r}, then {other!r}", "a digest of the files, or a version"
        )


@check("dataset", needs=[same_twice])
def leaves_host_options(subject: Subject) -> None:
    """It does not itself carry out limit, scale, labels, pixels or validation: the host does."""
    none_found(
        differing(vars(_loaded(subject)), vars(_load(subject, HOST_OPTIONS))),
        f"with {', '.join(HOST_OPTIONS)} it loads others",
        "load the whole data set as it is; what DataConfig's options say is done afterwards",
    )


def _loaded(subject: Subject) -> Any:
    return subject.keep("loaded", lambda: _load(subject, {}))


def _load(subject: Subject, options: Mapping[str, Any]) -> Any:
    dataset: Any = subject.plugin(parse(subject.plugin.Config, {**subject.options, **options}))
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with quiet_place(subject), torch.random.fork_rng():
        torch.seed()  # nobody seeds anything before a data set is loaded
        return dataset.load(DataContext(cache, lambda text: None))
