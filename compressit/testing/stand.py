"""The test stand: calls a stage or evaluator in this process as a worker does, on the bench's nets and data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.manifest import Architecture
from compressit.contract.compute import Compute
from compressit.contract.context import Judged, StageContext
from compressit.contract.kinds import Compressor, Dataset, Trainer
from compressit.contract.tasks import Task
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.running import rng
from compressit.running.apply import apply_plugin, measure_with
from compressit.running.inputs import Inputs
from compressit.running.loading import load_data
from compressit.seeds import Streams
from compressit.testing.subject import Subject
from compressit.testing.watch import Lent, quiet_place, watched

DATA: Mapping[str, Any] = {"uses": "testing.data", "with": {"validation": 0.25}}
TRAINING: Mapping[str, Any] = {"epochs": 2, "batch_size": 24}
Act = Callable[[nn.Module, StageContext], Any]


@dataclass(frozen=True)
class Net:
    """A model, and its architecture before any edits."""

    module: nn.Module
    architecture: Architecture


@dataclass(frozen=True)
class Called:
    """One call: its inputs and its result."""

    ctx: StageContext
    model: nn.Module  # the model that was passed
    before: nn.Module  # a copy of it from before the call
    models: list[Lent]
    data: Lent
    architecture: Architecture  # of the result, before any edits
    result: Any
    variables: list[str]  # changed environment variables

    def net(self) -> Net:
        """The result with its architecture."""
        return Net(self.result, self.architecture)


@dataclass(frozen=True)
class Stand:
    """The bench's data, and its nets by the names that options can use.

    `init` is untrained, `train` is trained, `wide` is twice as wide and untrained, `shrink` is a narrower student of
    `train`, and `round` is the result of the
    first of several rounds.
    """

    host: Host
    folder: Path
    data: Data
    compute: Compute
    nets: dict[str, Net]

    @property
    def task(self) -> Task[Any]:
        """What the bench's data pose."""
        return self.host.task(self.data.task)

    def copied(self, ref: str) -> nn.Module:
        """A copy of a net. Raises CompressitError for an unknown name."""
        net = self.nets.get({"model": "shrink"}.get(ref, ref))
        if net is None:
            raise CompressitError(
                f"it asked for the unknown model '{ref}'", "checks provide init, train, wide and previous"
            )
        return copy.deepcopy(net.module).to(self.compute.device)

    def reloaded(self, net: Net) -> Net:
        """Saves the net and loads it again. Raises CompressitError if it cannot be saved."""
        path = self.folder / "result.safetensors"
        checkpoint.save(net.module, path, net.architecture, self.data.contract, self.host)
        architecture = checkpoint.architecture_of(path)
        assert architecture is not None
        return Net(checkpoint.load(path, host=self.host), architecture)

    def logits(self, model: nn.Module) -> Tensor:
        """The model's outputs for the test inputs."""
        return self.compute.forward(model.to(self.compute.device), self.data.split("test"))

    def call(self, act: Act, ref: str, streams: Streams, measures: bool = False, **fields: Any) -> Called:
        """Calls `act` with a context and a copy of that net: in train mode, or for an evaluator frozen in eval mode.

        `fields` are passed to the context.
        """
        given, model = self.nets[ref].architecture, self.copied(ref).train(not measures)
        models: list[Lent] = []

        def load_model(name: str) -> nn.Module:
            own = "train" if measures else ref
            lent = self.copied(own if name == "previous" else name).eval().requires_grad_(False)
            models.append(Lent.of("a model it asked for", lent))
            return lent

        inputs = Inputs(self.host, self.compute, lambda: self.data, load_model, self.task, given)
        ctx = inputs.context(streams, **fields)
        if measures:
            ctx.memo["model", "model"] = model.requires_grad_(False)
            models.append(Lent.of("the model it measured", model))
        before, data = copy.deepcopy(model), Lent.of("the data", self.data)
        with watched() as left:
            result = act(model, ctx)
        built_as = inputs.architecture_of(result) or given
        return Called(ctx, model, before, models, data, built_as, result, left["variables"])


def stand(subject: Subject) -> Stand:
    """The subject's stand, created once."""
    return subject.keep("stand", lambda: _stand(subject))


def call(
    subject: Subject,
    apply: Callable[[Any, nn.Module, StageContext], Any] | None = None,
    ref: str = "train",
    number: int | None = None,
    **fields: Any,
) -> Called:
    """Calls the plugin as a worker does (or with `apply`); a stage gets the net `ref`, in round `number`.

    Raises CompressitError if a run would fail too.
    """
    place, plugin = stand(subject), subject.create()
    measures = subject.kind == "evaluator"
    streams = rng.judging(0, subject.name) if measures else Streams(0, "tested", number)
    if measures and plugin.uses_stage:
        config = {**TRAINING, "teacher": "train"}
        fields["judged"] = Judged("shrink", "testing.shrink", config, {}, Streams(0, "shrink"), "train")
    act = partial(apply or (measure_with if measures else apply_plugin), plugin)
    with quiet_place(subject):
        return place.call(act, "shrink" if measures else ref, streams, measures, **fields)


def _stand(subject: Subject) -> Stand:
    host, compute = subject.host, Compute.select(subject.device)
    dataset = host.create(Dataset, DATA["uses"], DATA["with"])
    data = load_data(dataset, host.task(dataset.task), subject.folder, lambda text: None, compute.device)
    architecture = Architecture("testing.net", {"width": 8}, data.contract.inputs, data.classes)
    with rng.building(0):
        init = Net(checkpoint.build(architecture, host), architecture)
    place = Stand(host, subject.folder, data, compute, {"init": init})
    train = partial(apply_plugin, host.create(Trainer, "testing.train", TRAINING))
    shrink = partial(apply_plugin, host.create(Compressor, "testing.shrink", TRAINING))
    widen = partial(apply_plugin, host.create(Compressor, "testing.widen", {}))
    with quiet_place(subject):
        for name, act, ref in (
            ("train", train, "init"),
            ("wide", widen, "init"),
            ("shrink", shrink, "train"),
        ):
            place.nets[name] = place.reloaded(place.call(act, ref, Streams(0, name)).net())
    return place
