"""ONNX export with torch's exporter (`dynamo=True`), checked by running it in onnxruntime."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressit.checkpoint.probe import quiet
from compressit.contract.measure import tensor_bytes
from compressit.datasets.batched import InputTensors, tensors_of
from compressit.datasets.specs import specs_of
from compressit.errors import CompressitError
from compressit.export.subject import Subject
from compressit.export.torch_export import reason, trace
from compressit.files.writing import replace

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_MOST_BYTES = 2**31 - 2**20  # of one protobuf message, with room for the graph


def write(subject: Subject, target: Path) -> None:
    """Writes one `.onnx` file with weights, whose inputs take any batch size: "input"; of several "input_0",
    "input_1" …, or the names that they have.

    Raises CompressitError if a package is missing, the model exceeds ONNX's 2 GB, cannot be converted, or gives other
    outputs in onnxruntime.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CompressitError(
            f"export to ONNX needs {', '.join(missing)}", "install them: pip install 'compressit[onnx]'"
        )
    if tensor_bytes(subject.model) > _MOST_BYTES:
        raise CompressitError("the model exceeds the 2 GB limit of ONNX files", "use --to torch-export")
    content = _converted(subject)
    session, names = _session(content), list(specs_of(subject.inputs))

    def run(x: InputTensors) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors_of(x), strict=True)}
        try:
            return [torch.from_numpy(array) for array in session.run(None, given)]
        except Exception as error:
            raise CompressitError(f"onnxruntime cannot run the exported model: {error}") from error

    subject.check(run, "the ONNX model")
    replace(target, content)


def _converted(subject: Subject) -> bytes:
    program, names = trace(subject), list(specs_of(subject.inputs))
    sizes = [{0: "batch"} for _ in names]
    named = isinstance(subject.inputs, dict)
    try:
        with _silent(), quiet():
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=names,
                dynamic_shapes=dict(zip(names, sizes, strict=True)) if named else tuple(sizes),
                verbose=False,
            )
    except Exception as error:
        raise CompressitError(
            f"torch's exporter cannot convert the model to ONNX: {reason(error)}",
            "use only operations that ONNX supports, or export with `--to torch-export` or `--to folder`",
        ) from error
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # removes paths and source lines of this machine
    digest = subject.header.manifest.tensors_sha256
    about = {"compressit": importlib.metadata.version("compressit"), "tensors_sha256": digest}
    made.model.metadata_props.update(about)
    return made.model_proto.SerializeToString()


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CompressitError(
            f"onnxruntime cannot load the exported model: {error}",
            "it supports every operator in float32 only: save `net.float()` and export that file",
        ) from error


@contextmanager
def _silent() -> Generator[None]:
    """Hides the exporter's warnings and progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
