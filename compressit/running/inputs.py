"""The one place where contexts are made: for a worker, for a plugin called from Python, for the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.contract.compute import Compute
from compressit.contract.context import Judged, Progress, StageContext
from compressit.contract.kinds import Model
from compressit.datasets.splits import Data
from compressit.host.plugins import Host
from compressit.running import rng
from compressit.seeds import Streams


@dataclass
class Inputs:
    """Where a stage or an evaluator finds data and models, and what it shares with others."""

    host: Host
    compute: Compute
    data: Callable[[], Data]
    model: Callable[[str], nn.Module]  # by reference; raises CompressitError for one that is not declared
    architecture: checkpoint.Architecture | None = None  # of the model that a stage is given
    emit: Callable[[Mapping[str, Any]], None] = lambda event: None
    memo: MutableMapping[Hashable, Any] = field(
        default_factory=dict[Hashable, Any]
    )  # what jobs share; else nobody's
    identity: Callable[[str], str] = lambda ref: ref
    _built: list[tuple[nn.Module, checkpoint.Architecture]] = field(
        default_factory=list[tuple[nn.Module, checkpoint.Architecture]]
    )

    def context(
        self,
        streams: Streams,
        feed: Literal["previous", "original"] = "previous",
        judged: Judged | None = None,
        progress: Progress | None = None,
    ) -> StageContext:
        """What the plugin is given besides the model. The round is the one of its streams."""
        return StageContext(
            compute=self.compute,
            streams=streams,
            load_data=self.data,
            load_model=self.model,
            round=streams.round,
            feed=feed,
            judged=judged,
            progress=progress or Progress(),
            narrow=lambda multiplier, times: self._narrower(streams, multiplier, times),
            emit=self.emit,
            memo=self.memo,
            identity=self.identity,
        )

    def architecture_of(self, result: nn.Module) -> checkpoint.Architecture | None:
        """What the builder was told that made it, before any edits: a narrower net's own, else the given model's."""
        return next((built for model, built in self._built if model is result), self.architecture)

    def _narrower(self, streams: Streams, multiplier: float, times: int) -> nn.Module | None:
        given = self.architecture
        if given is None or given.edited:
            return None  # the config no longer says how wide the layers are
        config = rng.narrowed(
            given.config,
            times,
            lambda config: self.host.create(Model, given.name, config).with_width(multiplier),
        )
        if config is None:
            return None
        narrower = checkpoint.Architecture(given.name, config, given.input_shape, given.classes)
        with rng.narrowing(streams):
            model = checkpoint.build(narrower, self.host).to(self.compute.device).train()
        self._built.append((model, narrower))
        return model
