"""Loads a dataset's tensors, the same way for runs, `compressit.data` and `compressit evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compressit.config import dump, parse
from compressit.contract.context import DataContext
from compressit.contract.kinds import Dataset
from compressit.contract.tasks import Task
from compressit.datasets.conforming import conformed
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Examples, Held, Source, Sources, retargeted
from compressit.datasets.specs import Inputs, TensorSpec, as_inputs
from compressit.datasets.splits import Data, InputSpec, Sourced, Split
from compressit.datasets.stored import stored
from compressit.datasets.streamed import NO_SKIP, Streamed, held, is_stored
from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.planning.keys import code_digest
from compressit.running.isolation import lending


def load_data(
    dataset: Dataset[Any],
    task: Task[Any],
    cache: Path,
    announce: Callable[[str], None],
    device: str = "cpu",
    like: InputSpec | None = None,
) -> Data:
    """A dataset's splits, with targets as the task takes them; not cached."""
    return prepared(dataset, task, loaded(dataset, DataContext(cache, announce)), announce, device, like)


def content(dataset: Dataset[Any]) -> tuple[str, str, str]:
    """Identifies the tensors that `loaded` returns: datasets with equal content share it."""
    return dataset.name, dataset.fingerprint(), canonical(dump(_loader(dataset).config))


def loaded(dataset: Dataset[Any], ctx: DataContext) -> Sources:
    """The dataset's examples, as its own options say: the host's (limit, labels, seed …) are carried out afterwards.

    What it draws from global random numbers is the same whoever asks first, and whatever was drawn before. Raises
    CompressitError where the examples are not what the dataset declares, and where its files change meanwhile.
    """
    before = content(dataset)

    def unchanged() -> None:
        if content(type(dataset)(dataset.config)) != before:  # a new one: an instance may remember
            raise CompressitError(f"the files of {dataset.name} changed while they were read", "start again")

    with lending(dataset.name):
        given = _loader(dataset).load(ctx)
    if not isinstance(given, Sources):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"{dataset.name} loaded {type(given).__name__}, not Sources",
            "return compressit.Sources(train=(inputs, labels), test=(inputs, labels))",
        )

    def folder(split: str) -> Path:
        facts = canonical([*before, code_digest(type(dataset).__module__), split])
        return ctx.cache / "examples" / hashlib.sha256(facts.encode()).hexdigest()

    workers = dataset.config.workers
    read = readable(dataset.name, given, folder, workers, ctx.announce, unchanged, as_inputs(dataset.inputs))
    found = _as_declared(dataset, read)
    if any(isinstance(examples, tuple | Held) for examples in found.given().values()):
        unchanged()  # a file of the cache was checked when it was written
    return found


def is_read_anew(split: Split) -> bool:
    """Whether its examples are read from somebody's torch Dataset in every epoch."""
    return isinstance(split, Sourced) and isinstance(split.source, Streamed)


def prepared(
    dataset: Dataset[Any],
    task: Task[Any],
    raw: Sources,
    announce: Callable[[str], None],
    device: str = "cpu",
    like: InputSpec | None = None,
) -> Data:
    """Calls `prepare` with the dataset's options, and announces its warnings about the data.

    Raises CompressitError for targets that are not what the task takes.
    """
    sources = retargeted(raw, dataset.name, task.targets)
    data = posing(task, sources, dataset.config, device, like, as_inputs(dataset.inputs))
    data = replace(data, doubts=(*data.doubts, *dataset.doubts()))
    for doubt in data.doubts:
        announce(f"warning: {dataset.name}: {doubt}")
    return data


def posing(
    task: Task[Any],
    sources: Sources,
    options: DataConfig,
    device: str = "cpu",
    like: InputSpec | None = None,
    inputs: Inputs | None = None,
) -> Data:
    """The splits of sources whose targets are as the task takes them. `inputs`: as declared, if they are."""
    posed, labelled = task.posed, task.target == "class"
    data = prepare(sources, options, posed.outputs, posed.names, device, like, labelled, inputs)
    return replace(data, task=posed)


def _loader(dataset: Dataset[Any]) -> Dataset[Any]:
    """The dataset without the host's options: variants that differ only in those share the loaded tensors."""
    own = {name: value for name, value in dump(dataset.config).items() if name not in DataConfig.model_fields}
    kind = type(dataset)
    try:
        return kind(parse(kind.Config, own))
    except ValidationError:  # it requires a host option, so its tensors are not shared
        return dataset


def readable(
    name: str,
    given: Sources,
    folder: Callable[[str], Path],
    workers: int,
    announce: Callable[[str], None],
    unchanged: Callable[[], None] = lambda: None,
    inputs: Inputs | None = None,
) -> Sources:
    """With sources in place of torch Datasets: a file in `folder(split)`, or, where `train` draws, read each time.
    Those with several inputs, or whole numbers, are in memory. `inputs`: as declared, if they are.

    `unchanged` raises where what was read changed meanwhile.
    """

    def kept(split: str, examples: Examples | None) -> Examples | None:
        if examples is None or isinstance(examples, tuple | Source):
            return examples
        called = f"{name} ({split})"
        if is_stored(examples, called, inputs):
            spec = inputs if isinstance(inputs, TensorSpec) else None
            return stored(examples, folder(split), called, workers, announce, unchanged, spec)
        found = held(examples, workers, called, inputs)
        return found if found.left_out else (found.inputs, found.targets)

    test, validation = (kept(split, getattr(given, split)) for split in ("test", "validation"))
    train, plain = given.train, kept("train_plain", given.train_plain)
    if plain is None:
        return Sources(kept("train", train) or train, test, validation)
    if isinstance(train, tuple | Source):
        raise CompressitError(
            f"{name}: `train_plain` stands beside a `train` of tensors, whose transforms are done",
            "give `train` as a torch Dataset, which is read anew in each epoch, or leave out `train_plain`",
        )
    source = Held(*plain) if isinstance(plain, tuple) else plain
    assert isinstance(source, Source), "what is kept is read already"
    if source.left_out:
        told = f"{name} (train_plain): an example cannot be left out: {source.left_out[0]}"
        raise CompressitError(told, NO_SKIP)
    if (count := len(train)) != len(source.targets):  # type: ignore[arg-type]
        raise CompressitError(
            f"{name}: `train` has {count:,} examples, and `train_plain` {len(source.targets):,}",
            "give the same examples in both, in one order",
        )
    return Sources(Streamed(name, train, source, workers, inputs), test, validation)


def _as_declared(dataset: Dataset[Any], sources: Sources) -> Sources:
    """What a dataset loaded, if it is what the dataset says of itself. Targets are checked by the task."""
    return conformed(sources, as_inputs(dataset.inputs), dataset.name)
