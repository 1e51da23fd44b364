"""The test stand: one stage or evaluator called in this process, on the bench's net and data, and watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.manifest import Architecture
from compressit.config import parse
from compressit.contract.compute import Compute
from compressit.contract.context import DataContext, Judged, Progress, StageContext
from compressit.contract.kinds import Dataset, Trainer
from compressit.datasets.splits import Data, prepare
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.running import rng, settings
from compressit.running.apply import Before
from compressit.running.inputs import Inputs
from compressit.seeds import Streams
from compressit.testing.subject import Subject
from compressit.testing.watch import Watched, WatchedData, quiet_place

DATA: Mapping[str, Any] = {"uses": "testing.data", "with": {"validation": 0.25}}
TRAINING: Mapping[str, Any] = {"epochs": 2, "batch_size": 24}


@dataclass(frozen=True)
class Stand:
    """The bench's data, and checkpoints of its models by the names that options may use."""

    host: Host
    folder: Path
    data: Data
    compute: Compute

    def file(self, ref: str) -> Path:
        """The checkpoint of `init`, `train`, `shrink` (what evaluators call `model`) or `round`.
        Raises CompressitError for others."""
        name = {"model": "shrink"}.get(ref, ref)
        if name not in ("init", "train", "shrink", "round"):
            raise CompressitError(
                f"it asked for the model '{ref}'", "here there are init, train and previous"
            )
        return self.folder / f"{name}.safetensors"

    def logits(self, model: nn.Module) -> Tensor:
        """Outputs on the test inputs."""
        return self.compute.forward(model.to(self.compute.device), self.data.test.x)


@dataclass
class Given:
    """What a plugin is called with, watched."""

    model: nn.Module
    watched: Watched  # that model as it was
    before: Before
    ctx: StageContext
    data: WatchedData
    others: list[Watched]  # models it asked for
    built_as: Callable[
        [nn.Module], Architecture | None
    ]  # what the builder of a result was told, before any edits


@dataclass(frozen=True)
class Called:
    """One call: what went in, and what came out."""

    given: Given
    result: Any
    settings: tuple[Mapping[str, Any], Mapping[str, Any]]  # of the process, before and after
    environment: tuple[Mapping[str, str], Mapping[str, str]]


def stand(subject: Subject) -> Stand:
    """Made once: an untrained net, one that was trained, and a narrower one that was taught by that."""
    return subject.keep("stand", lambda: _stand(subject))


def given(
    subject: Subject,
    ref: str = "train",
    number: int | None = None,
    feed: Literal["previous", "original"] = "previous",
) -> Given:
    """A copy of the bench's trained (or other) net in train mode, with a context, for a stage or a round of it."""
    inputs = _given(stand(subject), ref, Streams(0, "tested", number), previous=ref, feed=feed)
    inputs.model.train()
    return inputs


def call(subject: Subject, progress: Progress | None = None) -> Called:
    """Calls a trainer or compressor on a copy of the trained net, as a worker does."""
    inputs = given(subject)
    inputs.ctx.progress = progress or Progress()
    return _call(subject, subject.create(), inputs)


def measure(subject: Subject) -> Called:
    """Calls an evaluator on the narrower net, as a worker does."""
    place, plugin = stand(subject), subject.create()
    inputs = _given(place, "shrink", Streams(0, "shrink"))
    inputs.model.eval().requires_grad_(False)
    inputs.watched = Watched.of(inputs.model)
    inputs.ctx.memo["model", "model"] = inputs.model
    if plugin.uses_stage:
        streams = inputs.ctx.streams
        inputs.ctx.judged = Judged(
            "shrink", "testing.shrink", {**TRAINING, "teacher": "train"}, {}, streams, "train"
        )
    with quiet_place(subject), rng.measuring(inputs.ctx.streams):
        return _watching(inputs, plugin.evaluate)


def _call(subject: Subject, plugin: Any, inputs: Given) -> Called:
    with quiet_place(subject), rng.acting(inputs.ctx.streams):
        return _watching(inputs, plugin.train if isinstance(plugin, Trainer) else plugin.compress)


def _watching(inputs: Given, act: Callable[[nn.Module, StageContext], Any]) -> Called:
    before, environment = settings.read(), dict(os.environ)
    result = act(inputs.model, inputs.ctx)
    return Called(inputs, result, (before, settings.read()), (environment, dict(os.environ)))


def _stand(subject: Subject) -> Stand:
    host = subject.host
    dataset = host.create(Dataset, DATA["uses"], DATA["with"])
    raw = dataset.load(DataContext(subject.folder, lambda text: None))
    compute = Compute.select(subject.device)
    data = prepare(raw, dataset.config, dataset.classes, dataset.class_names, compute.device)
    place = Stand(host, subject.folder / "stand", data, compute)
    architecture = Architecture("testing.net", {"width": 8}, data.contract.shape, data.classes)
    with rng.building(0):
        net = checkpoint.build(architecture, host)
    checkpoint.save(net, place.file("init"), architecture, data.contract, host)
    for stage, uses, ref in (("train", "testing.train", "init"), ("shrink", "testing.shrink", "train")):
        found = host.find(uses).plugin
        inputs = _given(place, ref, Streams(0, stage))
        made = _call(subject, found(parse(found.Config, TRAINING)), inputs).result
        checkpoint.save(made, place.file(stage), inputs.built_as(made), data.contract, host)
    return place


def _given(
    place: Stand,
    ref: str,
    streams: Streams,
    previous: str = "train",
    feed: Literal["previous", "original"] = "previous",
) -> Given:
    others: list[Watched] = []

    def load_model(name: str) -> nn.Module:
        loaded = _loaded(place, previous if name == "previous" else name).eval().requires_grad_(False)
        others.append(Watched.of(loaded))
        return loaded

    model, architecture = _loaded(place, ref), checkpoint.architecture_of(place.file(ref))
    inputs = Inputs(place.host, place.compute, lambda: place.data, load_model, architecture)
    watched, data = Watched.of(model), WatchedData.of(place.data)
    ctx = inputs.context(streams, feed)
    return Given(model, watched, Before.of(model), ctx, data, others, inputs.architecture_of)


def _loaded(place: Stand, ref: str) -> nn.Module:
    return checkpoint.load(place.file(ref), host=place.host).to(place.compute.device)
