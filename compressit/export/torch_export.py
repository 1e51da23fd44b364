"""PyTorch's own graph format: https://docs.pytorch.org/docs/stable/export.html."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import fx
from torch.export import Dim, ExportedProgram

from compressit.checkpoint.header import replacing
from compressit.checkpoint.probe import outputs, quiet
from compressit.errors import CompressitError
from compressit.export.subject import Subject


def trace(subject: Subject) -> ExportedProgram:
    """The model as a graph for batches of any size, without the source lines and paths torch keeps in it.

    Raises CompressitError for a model that torch.export cannot follow.
    """
    try:
        with warnings.catch_warnings(), quiet(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                subject.model, (subject.x,), dynamic_shapes=({0: Dim("batch")},), strict=False
            )
    except Exception as error:
        raise CompressitError(
            f"torch.export cannot follow the model for batches of any size: {_first_line(error)}",
            "len(x) fixes the size of the batch, x.shape[0] does not; `--to folder` takes any model",
        ) from error
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
    torch.export.save(program, archive)
    archive.seek(0)
    again = torch.export.load(archive).module()

    subject.check(lambda x: outputs(again, x), "the exported program")
    with replacing(target) as temporary:
        temporary.write_bytes(archive.getvalue())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
