"""Makes all contexts: for workers, for plugins called from Python, and for the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.probe import probe_input
from compressit.config import ModelUse
from compressit.contract.classification import usual
from compressit.contract.compute import Compute
from compressit.contract.context import Judged, Progress, StageContext
from compressit.contract.init_options import InitConfig
from compressit.contract.initial import initialise
from compressit.contract.kinds import Model
from compressit.contract.nets import check_answers, copied
from compressit.contract.tasks import Task
from compressit.datasets.splits import Data
from compressit.host.plugins import Host
from compressit.running import rng
from compressit.seeds import Streams


@dataclass
class Inputs:
    """Where a stage or evaluator gets data and models, and what it shares with other jobs."""

    host: Host
    compute: Compute
    data: Callable[[], Data]
    model: Callable[[str], nn.Module]  # by reference; raises CompressitError if it is not declared
    task: Task[Any] = field(default_factory=usual)
    architecture: checkpoint.Architecture | None = None  # of the model that is received or measured
    init: InitConfig = field(default_factory=InitConfig)  # of students
    emit: Callable[[Mapping[str, Any]], None] = lambda event: None
    memo: MutableMapping[Hashable, Any] = field(
        default_factory=dict[Hashable, Any]
    )  # shared between jobs in a worker; otherwise private
    identity: Callable[[str], str] = lambda ref: ref
    # a model by reference with its architecture, for a stage to change and return
    saved: Callable[[str], tuple[nn.Module, checkpoint.Architecture | None]] | None = None
    _built: list[tuple[nn.Module, checkpoint.Architecture | None]] = field(
        default_factory=list[tuple[nn.Module, checkpoint.Architecture | None]]
    )

    def context(
        self,
        streams: Streams,
        feed: Literal["previous", "original"] = "previous",
        judged: Judged | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
    ) -> StageContext:
        """The plugin's context. The round comes from `streams`."""
        return StageContext(
            compute=self.compute,
            streams=streams,
            load_data=self.data,
            load_model=self.model,
            task=self.task,
            round=streams.round,
            feed=feed,
            fresh=fresh,
            judged=judged,
            progress=progress or Progress(),
            init=self.init,
            narrow=lambda multiplier, times: self._narrower(streams, multiplier, times),
            own_net=lambda given: self._net(streams, given),
            emit=self.emit,
            memo=self.memo,
            identity=self.identity,
        )

    def architecture_of(self, result: nn.Module) -> checkpoint.Architecture | None:
        """The result's architecture before any edits: a narrower net's own, otherwise the given model's."""
        return next((built for model, built in self._built if model is result), self.architecture)

    def _net(self, streams: Streams, given: ModelUse | str) -> nn.Module:
        if isinstance(given, ModelUse):
            inputs = self.data().contract.inputs
            made = checkpoint.Architecture(given.uses, given.with_, inputs, self.task.outputs)
            model = self._drawn(streams, made)
            check_answers(copied(model, same_parameters=True), probe_input(inputs), self.task.check)
            return self._kept(model, made)
        assert self.saved is not None, "whoever resolves references gives their models"
        return self._kept(*self.saved(given))

    def _narrower(self, streams: Streams, multiplier: float, times: int) -> nn.Module | None:
        given = self.architecture
        if given is None or (times and given.edited):
            return None  # the config no longer gives the layers' widths
        config = rng.narrowed(
            given.config,
            times,
            lambda config: self.host.create(Model, given.name, config).with_width(multiplier),
        )
        if config is None:
            return None
        narrower = checkpoint.Architecture(given.name, config, given.inputs, given.outputs)
        return self._kept(self._drawn(streams, narrower), narrower)

    def _drawn(self, streams: Streams, made: checkpoint.Architecture) -> nn.Module:
        """A net with fresh weights."""
        with rng.narrowing(streams, self.init.draw):
            model = checkpoint.build(made, self.host)
            initialise(model, self.init)
        return model

    def _kept(self, model: nn.Module, made: checkpoint.Architecture | None) -> nn.Module:
        """The net as a stage gets it. Should it be the result, it is saved as what it was built as."""
        model = self.compute.placed(model).train()
        self._built.append((model, made))
        return model
