"""Runs a plugin directly, in this process: what `compressit.stage` returns."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compressit.config import model_refs, names_models
from compressit.contract.kinds import Compressor, Trainer
from compressit.contract.tasks import Task
from compressit.errors import CompressitError
from compressit.files.reading import checkpoint_file
from compressit.host.plugins import installed
from compressit.python.arguments import blaming, check_does, check_net, create, model_for, plain, student_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compressit.checkpoint.manifest import Architecture
    from compressit.datasets.batched import InputTensors
    from compressit.datasets.splits import Data


class InProcess:
    """One trainer or compressor; see `compressit.stage`."""

    def __init__(self, name: str, options: Mapping[str, Any], teacher: Any, seed: int) -> None:
        found = installed().find(name, "trainer", "compressor")
        field = found.plugin.Config.model_fields.get("teacher")
        if field is not None and not names_models(field):  # an ordinary option with that name
            options, teacher, field = (
                (options if teacher is None else {"teacher": teacher, **options}),
                None,
                None,
            )
        several = isinstance(teacher, list | tuple)
        given = teacher if several else [] if teacher is None else [teacher]
        nets = [_teacher(one) for one in given]
        self.options = plain(name, options)
        """As they were given, as JSON values; without the teacher."""
        self.needs_teacher = field is not None and field.is_required()
        # names that `_of` knows; of one teacher any will do
        names = [f"teacher{number}" for number in range(len(nets))]
        named: dict[str, Any] = {"teacher": "previous"} if self.needs_teacher else {}
        if several and field is not None:
            named = {"teacher": names}
        self._kind = Trainer if found.kind == "trainer" else Compressor
        self._plugin = create(self._kind, name, {**named, **self.options})
        if nets and not any(model_refs(self._plugin.config)):
            raise CompressitError(
                f"{name} takes no teacher", "leave out teacher=: none of its options names a model"
            )
        self.teachers: Mapping[str, nn.Module | Path | str] = dict(zip(names, nets, strict=True))
        self.seed = seed
        self.name = name
        self.notes: Mapping[str, Any] = {}
        self.curves: Mapping[str, Iterable[tuple[float, float]]] = {}

    def __call__(self, model: nn.Module, data: Data | None = None) -> nn.Module:
        from compressit.contract.classification import usual
        from compressit.contract.compute import Compute, precision_of
        from compressit.contract.nets import copied, try_out, unwrapped
        from compressit.running.apply import apply_plugin
        from compressit.running.inputs import Inputs
        from compressit.running.isolation import lending
        from compressit.seeds import Streams

        if self.needs_teacher and not self.teachers:
            create(self._kind, self.name, self.options)  # raises: the option is missing
        self._check_arguments(model, data)
        model = unwrapped(model)
        with lending(self.name):
            try_out(model, None if data is None else _example(data, _device(model)))

        def load_data() -> Data:
            if data is None:
                raise CompressitError(
                    f"{self.name} needs data", "call it as stage(model, compressit.data(...))"
                )
            return data

        device = data.train.y.device.type if data is not None else _device(model).type
        compute = Compute.select(device, precision_of(model))
        task = installed().task(data.task) if data is not None else usual()
        self._check_does(task)
        inputs = Inputs(
            installed(),
            compute,
            load_data,
            lambda ref: copied(self._of(ref, model, data)),
            task,
            saved=lambda ref: self._student(ref, load_data()),
        )
        ctx = inputs.context(Streams(self.seed, self.name))
        with blaming(model, data):
            result = apply_plugin(self._plugin, copied(model), ctx)
        self.notes, self.curves = ctx.notes, ctx.curves
        if diverged := ctx.notes.get("diverged"):
            warnings.warn(f"{self.name} diverged: {diverged}", stacklevel=2)
        return result.eval()

    def _of(self, ref: str, model: nn.Module, data: Data | None) -> nn.Module:
        """The model that `ref` names: a teacher, the net itself for `previous`, or the model of a file."""
        from compressit.checkpoint import model as checkpoint

        teacher = self.teachers.get(ref, next(iter(self.teachers.values()), None))
        if teacher is None and ref.endswith(".safetensors"):
            teacher = Path(ref)
        if isinstance(teacher, Path):
            if data is not None:
                return model_for(teacher, data, installed())
            return checkpoint.load(checkpoint_file(teacher), host=installed())
        if isinstance(teacher, str):
            raise CompressitError(
                f"{self.name} learns from the original, and a stage by itself has none",
                "pass the net: teacher=net; in compressit.compare, the original is its model",
            )
        if teacher is not None:
            return teacher
        if ref == "previous":
            return model
        raise self._unnamed(ref, "pass the net: teacher=net")

    def _student(self, ref: str, data: Data) -> tuple[nn.Module, Architecture | None]:
        """The model of a file, for the stage to train."""
        if not ref.endswith(".safetensors"):
            raise self._unnamed(ref, "give the path of a checkpoint")
        return student_of(checkpoint_file(ref), data, installed())

    def _unnamed(self, ref: str, hint: str) -> CompressitError:
        return CompressitError(
            f"{self.name} names the model '{ref}', but only recipes have named models", hint
        )

    def _check_does(self, task: Task[Any]) -> None:
        """Raises CompressitError if the plugin, or one of its options, is not for this task."""
        check_does(self._plugin, task)
        for option, why in self._plugin.misfits(task).items():
            raise CompressitError(f"{self.name}: {option} {why}", "change the option, or the data's task")

    def _check_arguments(self, model: object, data: object) -> None:
        from compressit.datasets.splits import Data

        if isinstance(model, Data):
            raise CompressitError(f"{self.name} takes the net first, then the data", "stage(net, data)")
        check_net(model, self.name)
        if data is not None and not isinstance(data, Data):
            raise CompressitError(
                f"{self.name} takes data from compressit.data, not a {type(data).__name__}",
                'call it as stage(net, compressit.data("data.mnist"))',
            )


def _teacher(given: object) -> nn.Module | Path | str:
    """A net, the path of a checkpoint, or the word "original". Raises CompressitError for anything else."""
    from compressit.contract.nets import unwrapped

    if isinstance(given, str) and given == "original":
        return given
    if not isinstance(given, str | Path):
        check_net(given, "teacher=")
        return unwrapped(cast("nn.Module", given))
    if not str(given).endswith(".safetensors"):
        raise CompressitError(
            f"teacher= takes a net, the path of a checkpoint, or 'original', not '{given}'",
            "a net is a torch.nn.Module, a checkpoint's path ends in .safetensors, and only compressit.compare has "
            "an original",
        )
    return Path(given)


def _example(data: Data, device: torch.device) -> InputTensors:
    from compressit.datasets.batched import each_tensor

    return each_tensor(data.train.some(2), lambda tensor: tensor.to(device))


def _device(model: nn.Module) -> torch.device:
    """The device of the net's tensors."""
    from itertools import chain

    import torch

    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
