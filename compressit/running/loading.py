"""Loads a dataset's tensors, the same way for runs, `compressit.data` and `compressit evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import cat

from compressit.config import dump, parse
from compressit.contract.context import DataContext
from compressit.contract.kinds import Dataset
from compressit.datasets.options import DataConfig
from compressit.datasets.splits import Data, InputSpec, RawData, prepare
from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.running.isolation import lending


def load_data(
    dataset: Dataset[Any],
    cache: Path,
    announce: Callable[[str], None],
    device: str = "cpu",
    like: InputSpec | None = None,
) -> Data:
    """A dataset's splits, not cached."""
    return prepared(dataset, loaded(dataset, DataContext(cache, announce)), announce, device, like)


def content(dataset: Dataset[Any]) -> tuple[str, str, str]:
    """Identifies the tensors that `loaded` returns: datasets with equal content share it."""
    return dataset.name, dataset.fingerprint(), canonical(dump(_loader(dataset).config))


def loaded(dataset: Dataset[Any], ctx: DataContext) -> RawData:
    """Loads the dataset's tensors with its own options only; the host applies limit, labels, seed … afterwards.

    Global random numbers that it draws do not depend on what ran before. Raises CompressitError if the tensors differ
    from what the dataset declares.
    """
    with lending(dataset.name):
        raw = _loader(dataset).load(ctx)
    return _as_declared(dataset, raw)


def prepared(
    dataset: Dataset[Any],
    raw: RawData,
    announce: Callable[[str], None],
    device: str = "cpu",
    like: InputSpec | None = None,
) -> Data:
    """Calls `splits.prepare` with the dataset's options, and announces its warnings about the data."""
    data = prepare(raw, dataset.config, dataset.classes, dataset.class_names, device, like)
    for doubt in data.doubts:
        announce(f"warning: {dataset.name}: {doubt}")
    return data


def _loader(dataset: Dataset[Any]) -> Dataset[Any]:
    """The dataset without the host's options: variants that differ only in those share the loaded tensors."""
    own = {name: value for name, value in dump(dataset.config).items() if name not in DataConfig.model_fields}
    kind = type(dataset)
    try:
        return kind(parse(kind.Config, own))
    except ValidationError:  # it requires a host option, so its tensors are not shared
        return dataset


def _as_declared(dataset: Dataset[Any], raw: Any) -> RawData:
    """What a dataset loaded. Raises CompressitError if it differs from what the dataset declares."""
    if not isinstance(raw, RawData):
        raise CompressitError(f"{dataset.name} loaded {type(raw).__name__}, not RawData")
    shape = tuple(raw.train_x.shape[1:])
    if shape != tuple(dataset.input_shape) or shape != tuple(raw.test_x.shape[1:]):
        raise CompressitError(
            f"{dataset.name} loaded inputs of shape {shape} and {tuple(raw.test_x.shape[1:])}, "
            f"but declares {tuple(dataset.input_shape)}"
        )
    labels = cat([raw.train_y, raw.test_y])
    if int(labels.min()) < 0 or int(labels.max()) >= dataset.classes:
        raise CompressitError(
            f"{dataset.name} loaded labels from {int(labels.min())} to {int(labels.max())}, "
            f"but declares {dataset.classes} classes"
        )
    return raw
