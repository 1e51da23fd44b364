"""Plugins made of what a Python session has: a net, examples, a function. No other process has them, so workers are
forked from the session, or are the session. The option `digest` says what they are, so that results are reused for the
same thing only.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, create_model

from compressit.config import Config
from compressit.contract.kinds import Compressor, Dataset, Model
from compressit.contract.plugin import Plugin
from compressit.datasets.options import DataConfig
from compressit.datasets.origin import Origin
from compressit.datasets.sources import Examples, Held, targets_of
from compressit.datasets.specs import Inputs, to_json
from compressit.datasets.stored import Stored
from compressit.datasets.streamed import Streamed
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.files.reading import digest as file_digest
from compressit.files.sealed import digest_of
from compressit.host.plugins import Host, Source, installed
from compressit.paths import default_cache
from compressit.planning.identity import Identity, identity
from compressit.python.arguments import blaming, check_net

if TYPE_CHECKING:
    from torch import nn

    from compressit.contract.context import DataContext, StageContext
    from compressit.datasets.sources import Sources
    from compressit.datasets.splits import Data

SOURCE = Source("this Python session")


@dataclass
class Session:
    """The plugins of one comparison that only this process has. `files`: what is removed after it."""

    files: ExitStack
    plugins: dict[str, type[Plugin[Any]]] = field(default_factory=dict[str, type[Plugin[Any]]])
    unknown: list[str] = field(default_factory=list[str])  # what is not reused, and why: a line each
    _nets: dict[int, Path] = field(default_factory=dict[int, Path])  # by identity
    _functions: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def host(self) -> Host:
        """The installed plugins and these."""
        return installed().beside(self.plugins.values(), SOURCE)

    def data(self, origin: Origin, posed: TaskSpec) -> str:
        """The name of a dataset with somebody's own examples."""
        assert origin.sources is not None
        parts = {name: _content(examples) for name, examples in origin.sources.given().items()}
        what = self._known("the data", identity([parts, to_json(origin.inputs), posed.to_json()]))  # type: ignore[arg-type]
        return self._add("data", lambda name: _dataset(name, what.digest, origin, posed))

    def function(self, strategy: str, function: Callable[..., Any]) -> str:
        """The name of a compressor that calls `function(model, data)`: its own, else that of the strategy."""
        if (known := self._functions.get(id(function))) is not None:
            return known
        called = str(getattr(function, "__name__", strategy))
        what = self._known(f"'{strategy}'", identity(function))
        made = self._add(
            called if called.isidentifier() else strategy,
            lambda name: _compressor(name, what.digest, function),
        )
        self._functions[id(function)] = made
        return made

    def net(self, net: nn.Module, data: Data, place: str) -> Path:
        """A checkpoint of the net, in the cache, that its copies here can rebuild. `place`: what takes it.

        Raises CompressitError for what is no net, and for one that does not run on the data or cannot be saved.
        """
        from compressit.checkpoint import model as checkpoint
        from compressit.contract.compute import Compute, precision_of
        from compressit.contract.nets import copied, unwrapped
        from compressit.datasets.batched import each_tensor

        check_net(net, place)
        net = unwrapped(net)
        if (known := self._nets.get(id(net))) is not None:
            return known
        what = self._known(f"the net of {place}", identity(net))
        mine = copied(net).cpu()
        with blaming(mine, data):
            x = each_tensor(data.train.some(2), lambda tensor: tensor.cpu())
            Compute.select("cpu", precision_of(mine)).forward(mine, x)
        name = self._add(type(net).__name__, lambda name: _model(name, what.digest, mine))
        made = checkpoint.Architecture(name, {"digest": what.digest}, data.contract.inputs, data.classes)
        facts = {**vars(data.contract), "inputs": to_json(data.contract.inputs), "task": data.task.to_json()}
        file = self._folder(what) / f"{digest_of({'net': [name, what.digest, facts]})}.safetensors"
        if not file.exists():
            try:
                checkpoint.save(mine, file, made, data.contract, self.host, task=data.task)
            except CompressitError as error:  # the file is not the user's
                message = error.message.removeprefix(f"{file}: ")
                raise CompressitError(f"the net of {place} {message}", error.hint) from error
        self._nets[id(net)] = file
        return file

    def _known(self, called: str, what: Identity) -> Identity:
        if what.unknown:
            self.unknown.append(
                f"{called}: results are not reused, because its content cannot be read: {what.why}"
            )
        return what

    def _folder(self, what: Identity) -> Path:
        if what.unknown:  # it is good only once
            return Path(self.files.enter_context(tempfile.TemporaryDirectory()))
        folder = default_cache() / "nets"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _add(self, called: str, made: Callable[[str], type[Plugin[Any]]]) -> str:
        """Registers a plugin under a free name like `live.Net`."""
        plain = name = f"live.{re.sub(r'[^A-Za-z0-9_-]', '_', called) or '_'}"
        number = 1
        while name in self.plugins or name in installed().names():
            number += 1
            name = f"{plain}-{number}"
        self.plugins[name] = made(name)
        return name


def _options(base: type[Config], digest: str) -> Any:
    about = "what it is, as a digest: other values mean something else of another session"
    only: Any = Literal[digest]  # type: ignore[valid-type]
    return create_model("Options", __base__=base, digest=(only, Field(digest, description=about)))


def _model(called: str, digest: str, net: nn.Module) -> type[Model[Any]]:
    class Net(Model[Config]):
        name = called

        def build(self, inputs: Inputs, outputs: int) -> nn.Module:
            from compressit.contract.nets import copied

            made = copied(net)
            _draw(made)
            return made

    Net.Config = _options(Config, digest)
    return Net


def _draw(net: nn.Module) -> None:
    """Fresh weights in place, from torch's global generator: each layer's own `reset_parameters`; without one, the
    same values in another order, which keeps their scale and forgets what they had learned."""
    import torch

    for layer in net.modules():
        reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
        if callable(reset):
            reset()
            continue
        with torch.no_grad():
            for weight in layer.parameters(recurse=False):
                weight.copy_(weight.flatten()[torch.randperm(weight.numel())].view(weight.shape))


def _dataset(called: str, digest: str, origin: Origin, posed: TaskSpec) -> type[Dataset[Any]]:
    sources, given = cast("Sources", origin.sources), cast("Inputs", origin.inputs)

    class Own(Dataset[DataConfig]):
        name = called

        @property
        def inputs(self) -> Inputs:
            return given

        @property
        def task(self) -> TaskSpec:
            return posed

        @property
        def train_size(self) -> int:
            return len(targets_of(sources.train))

        @property
        def has_validation(self) -> bool:
            return sources.validation is not None

        def load(self, ctx: DataContext) -> Sources:
            return _copied(sources)

    Own.Config = _options(DataConfig, digest)
    return Own


def _copied(sources: Sources) -> Sources:
    """With tensors of its own: what a stage may write to them, which fails it, must not reach the next job's."""
    from torch import Tensor

    from compressit.datasets.batched import each_tensor

    def copied(examples: Examples) -> Examples:
        if isinstance(examples, tuple):
            return each_tensor(examples[0], Tensor.clone), examples[1].clone()
        return examples.with_targets(targets_of(examples).clone()) if isinstance(examples, Held) else examples

    return type(sources)(**{name: copied(examples) for name, examples in sources.given().items()})


def _compressor(called: str, digest: str, function: Callable[..., Any]) -> type[Compressor[Any]]:
    class Called(Compressor[Config]):
        name = called

        def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
            from torch import nn

            from compressit.contract.nets import unwrapped

            kind, made = type(model), function(model, ctx.data)
            if isinstance(made, nn.Module) and type(unwrapped(made)) is not kind:
                raise CompressitError(
                    f"the function returned a {type(made).__name__}, and it got a {kind.__name__}",
                    "return the net that it got, changed: layers may be narrower, or others; a comparison of its own "
                    "is for another network",
                )
            return made

    Called.Config = _options(Config, digest)
    return Called


def _content(examples: Examples) -> Mapping[str, Any]:
    """What a split's examples are, for `identity`: where they lie does not matter."""
    if isinstance(examples, Stored):
        inputs: Any = [file_digest(examples.file), examples.like]
    elif isinstance(examples, Held):
        inputs = examples.inputs
    elif isinstance(examples, Streamed):
        inputs = [_content(examples.plain), examples.train]  # with the transforms that draw
    else:
        inputs = examples[0] if isinstance(examples, tuple) else examples
    return {"inputs": inputs, "targets": targets_of(examples)}
