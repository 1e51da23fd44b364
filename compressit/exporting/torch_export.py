"""PyTorch's own graph format: https://docs.pytorch.org/docs/stable/export.html."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from compressit.checkpoint.probe import outputs, quiet
from compressit.datasets.batched import InputTensors, tensors_of
from compressit.errors import CompressitError
from compressit.exporting.subject import Subject
from compressit.files.writing import replace


def trace(model: nn.Module, x: InputTensors) -> ExportedProgram:
    """A model as a graph for any batch size, traced on `x`, without torch's source lines and paths.

    Named tuples and custom dictionaries in outputs become plain ones, since a program cannot store classes.
    Raises CompressitError if torch.export cannot trace the model.
    """
    made_plain = model.register_forward_hook(lambda _model, _inputs, outputs: _plain(outputs))
    try:
        with warnings.catch_warnings(action="ignore"), quiet(), torch.no_grad():
            args, kwargs = arguments(x)
            any_size = {0: Dim("batch")}
            sizes = dict.fromkeys(kwargs, any_size) if kwargs else (any_size,) * len(args)
            program = torch.export.export(model, args, kwargs, dynamic_shapes=sizes, strict=False)
    except Exception as error:
        raise CompressitError(
            f"torch.export cannot trace the model for any batch size: {reason(error)}",
            "use x.shape[0] instead of len(x), which fixes the batch size; `--to folder` works with any model",
        ) from error
    finally:
        made_plain.remove()
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def arguments(x: InputTensors) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The inputs as a model's positional arguments, or, where they have names, as keyword arguments."""
    return ((), x) if isinstance(x, dict) else (tensors_of(x), {})


def write(subject: Subject, target: Path) -> None:
    """Writes a `.pt2` archive for `torch.export.load`, without pickles. Raises CompressitError."""
    program = trace(subject.model, subject.x)
    program.example_inputs = None  # the only thing in the archive that torch would pickle
    archive = io.BytesIO()
    try:
        torch.export.save(program, archive)
        archive.seek(0)
        again = torch.export.load(archive).module()
    except Exception as error:
        raise CompressitError(
            f"torch.export cannot save the model's program: {reason(error)}", "use `--to folder` instead"
        ) from error

    subject.check(lambda x: outputs(again, x), "the exported program")
    replace(target, archive.getvalue())


def reason(error: BaseException) -> str:
    """The first line of the root cause of an exporter's error, without terminal colors."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error)).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _plain(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return {name: _plain(value) for name, value in outputs.items()}
    if isinstance(outputs, tuple):
        return tuple(_plain(value) for value in outputs)
    return [_plain(value) for value in outputs] if isinstance(outputs, list) else outputs
