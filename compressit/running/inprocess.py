"""A plugin called directly, in this process: what `compressit.stage` gives, and how Python's options are read."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from compressit.config import marked_fields, model_refs
from compressit.contract.kinds import Compressor, Plugin, Trainer
from compressit.errors import CompressitError
from compressit.host.plugins import KINDS, installed
from compressit.recipe.validation import checked

P = TypeVar("P", bound=Plugin[Any])

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compressit.datasets.splits import Data


class InProcess:
    """One trainer or compressor; see `compressit.stage`."""

    def __init__(self, name: str, options: Mapping[str, Any], teacher: Any, seed: int) -> None:
        found = installed().find(name, "trainer", "compressor")
        field = found.plugin.Config.model_fields.get("teacher")
        if field is not None and "teacher" not in marked_fields(
            found.plugin.Config
        ):  # an option of its own that is only called so
            options, teacher = (options if teacher is None else {"teacher": teacher, **options}), None
        teacher = None if teacher is None else _teacher(teacher)
        if teacher is not None and field is not None and field.is_required():
            options = {"teacher": "previous", **options}  # the argument serves it
        self._plugin = create(Trainer if found.kind == "trainer" else Compressor, name, plain(name, options))
        if teacher is not None and not any(model_refs(self._plugin.config)):
            raise CompressitError(
                f"{name} asks for no teacher", "leave out teacher=: none of its options names a model"
            )
        self._teacher = teacher
        self._seed = seed
        self.name = name
        self.notes: Mapping[str, Any] = {}
        self.curves: Mapping[str, Iterable[tuple[float, float]]] = {}

    def __call__(self, model: nn.Module, data: Data | None = None) -> nn.Module:
        from compressit.contract.compute import Compute
        from compressit.contract.context import StageContext
        from compressit.contract.nets import copied, refuse_unworkable, try_out, unwrapped
        from compressit.running.apply import apply_plugin
        from compressit.running.isolation import lending
        from compressit.seeds import Streams

        self._check_arguments(model, data)
        model = unwrapped(model)
        refuse_unworkable(model)
        with lending(self.name):
            try_out(model, data.train.x[:2].to(_device(model)) if data is not None else None)

        def load_data() -> Data:
            if data is None:
                raise CompressitError(
                    f"{self.name} needs data", "call it as stage(model, compressit.data(...))"
                )
            return data

        compute = Compute.select(data.train.x.device.type if data is not None else _device(model).type)
        ctx = StageContext(
            compute,
            Streams(self._seed, self.name),
            load_data,
            lambda ref: copied(self._of(ref, model, data)),
        )
        with blaming(model, data), lending(self.name):
            result = apply_plugin(self._plugin, copied(model), ctx)
        self.notes, self.curves = ctx.notes, ctx.curves
        return result.eval()

    def _of(self, ref: str, model: nn.Module, data: Data | None) -> nn.Module:
        """The model of a reference: the teacher, the net itself where the stage means what it is given, or a file's."""
        from compressit.api import load
        from compressit.running.evaluation import model_for

        teacher = self._teacher
        if teacher is None and ref.endswith(".safetensors"):
            teacher = Path(ref)
        if isinstance(teacher, Path):
            return load(teacher) if data is None else model_for(teacher, data, installed())
        if teacher is not None:
            return teacher
        if ref == "previous":
            return model
        raise CompressitError(
            f"{self.name} names the model '{ref}', and stages have no names here", "pass the net: teacher=net"
        )

    def _check_arguments(self, model: object, data: object) -> None:
        from compressit.datasets.splits import Data

        if isinstance(model, Data):
            raise CompressitError(f"{self.name} takes the net first, then the data", "stage(net, data)")
        check_net(model, self.name)
        if data is not None and not isinstance(data, Data):
            raise CompressitError(
                f"{self.name} takes data as compressit.data gives them, not a {type(data).__name__}",
                'call it as stage(net, compressit.data("data.mnist"))',
            )


def _teacher(given: object) -> nn.Module | Path:
    """A net, or the path of a checkpoint. Raises CompressitError for anything else."""
    from compressit.contract.nets import unwrapped

    if not isinstance(given, str | Path):
        check_net(given, "teacher=")
        return unwrapped(cast("nn.Module", given))
    if not str(given).endswith(".safetensors"):
        raise CompressitError(
            f"teacher= takes a net, or the path of a checkpoint, not '{given}'",
            "a net is a torch.nn.Module, a checkpoint's path ends in .safetensors",
        )
    return Path(given)


def create(kind: type[P], name: str, options: Mapping[str, Any]) -> P:
    """The plugin with these options. Raises CompressitError for those it refuses."""
    label = next(label for label, base in KINDS.items() if base is kind)
    plugin = installed().find(name, label).plugin
    return plugin(checked(plugin.Config, options, name))  # type: ignore[return-value]


def plain(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON has them; paths count as text. Raises CompressitError for what JSON cannot hold."""
    found: dict[str, Any] = {}
    for option, value in options.items():
        try:
            found[option] = json.loads(json.dumps(value, default=os.fspath))
        except (TypeError, ValueError) as error:
            raise CompressitError(
                f"{name}: {option}={value!r} is no plain value", "give a number, text, a list or a dict"
            ) from error
    return found


def check_net(value: object, place: str) -> None:
    """Raises CompressitError for what is no nn.Module. `place`: what takes one."""
    from torch import nn

    if isinstance(value, type) and issubclass(value, nn.Module):
        hint = f"build one: {value.__name__}(…)"
        raise CompressitError(f"{place} takes a net, and {value.__name__} is a class of nets", hint)
    if not isinstance(value, nn.Module):
        given = f"'{value}'" if isinstance(value, str) else f"a {type(value).__name__}"
        raise CompressitError(f"{place} takes a net, not {given}", "a net is a torch.nn.Module")


@contextmanager
def blaming(model: nn.Module, data: Data | None) -> Generator[None]:
    """Tells, when something goes wrong inside, whether it is that the model cannot be fed these data.

    Then raises CompressitError: it does not run on such inputs, or has fewer outputs than there are classes.
    """
    try:
        yield
    except Exception as error:
        if data is not None:
            _check_runs(model, data, error)
        raise


def _check_runs(model: nn.Module, data: Data, cause: Exception) -> None:
    from compressit.contract.compute import Compute
    from compressit.contract.nets import check_logits, copied, fault_of, place_of

    x = data.train.x[:2]
    hint = (
        f"the data have inputs of shape {tuple(x.shape[1:])} and {data.classes} classes: build a net for them"
    )
    net = copied(model)
    try:
        outputs = Compute(x.device.type).forward(net.to(x.device), x)
    except Exception as error:
        if (fault := fault_of(net, x)) is not None:
            raise fault from cause
        if isinstance(cause, CompressitError):
            return
        if isinstance(error, CompressitError):
            raise error from cause
        raise CompressitError(
            f"the net does not run on the data: {place_of(error, net)}{error}", hint
        ) from cause
    if not isinstance(cause, CompressitError):
        try:
            check_logits(outputs, data.classes)
        except CompressitError as fault:
            raise CompressitError(fault.message, f"{fault.hint}; {hint}") from cause


def _device(model: nn.Module) -> torch.device:
    """Where the net's tensors are."""
    from itertools import chain

    import torch

    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
