"""PyTorch's own graph format: https://docs.pytorch.org/docs/stable/export.html."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import Dim, ExportedProgram

from compressit.checkpoint.probe import outputs, quiet
from compressit.errors import CompressitError
from compressit.export.subject import Subject
from compressit.files.writing import replace


def trace(subject: Subject) -> ExportedProgram:
    """The model as a graph for batches of any size, without the source lines and paths torch keeps in it.

    Outputs of classes of its own (named tuples and dictionaries) become plain ones: a program holds no classes.
    Raises CompressitError for a model that torch.export cannot follow.
    """
    made_plain = subject.model.register_forward_hook(lambda _model, _inputs, outputs: _plain(outputs))
    try:
        with warnings.catch_warnings(action="ignore"), quiet(), torch.no_grad():
            program = torch.export.export(
                subject.model, (subject.x,), dynamic_shapes=({0: Dim("batch")},), strict=False
            )
    except Exception as error:
        raise CompressitError(
            f"torch.export cannot follow the model for batches of any size: {reason(error)}",
            "len(x) fixes the size of the batch, x.shape[0] does not; `--to folder` takes any model",
        ) from error
    finally:
        made_plain.remove()
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def write(subject: Subject, target: Path) -> None:
    """A `.pt2` archive for `torch.export.load`, without pickle in it. Raises CompressitError."""
    program = trace(subject)
    program.example_inputs = None  # the one thing in the archive that torch pickles
    archive = io.BytesIO()
    try:
        torch.export.save(program, archive)
        archive.seek(0)
        again = torch.export.load(archive).module()
    except Exception as error:
        raise CompressitError(
            f"torch.export cannot store the model's program: {reason(error)}", "`--to folder` takes any model"
        ) from error

    subject.check(lambda x: outputs(again, x), "the exported program")
    replace(target, archive.getvalue())


def reason(error: BaseException) -> str:
    """What torch's exporters mean: the first line of the error at the bottom, without colours of a terminal."""
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
