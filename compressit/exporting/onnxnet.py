"""A net as ONNX: made by torch's exporter (`dynamo=True`), run by onnxruntime on the CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressit.checkpoint.probe import outputs, probe_input, quiet
from compressit.contract.compute import fitting
from compressit.contract.measure import tensor_bytes
from compressit.datasets.batched import InputTensors, tensors_of
from compressit.datasets.specs import Inputs, specs_of, to_json, values_of
from compressit.datasets.splits import InputSpec, Split
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.exporting.torch_export import reason, trace

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOST_BYTES = 2**31 - 2**20  # of one protobuf message, with room for the graph


@dataclass(frozen=True)
class OnnxNet:
    """The content of an ONNX file, loaded by onnxruntime, and what it takes. Raises CompressitError for what it cannot
    load or run."""

    content: bytes
    inputs: Inputs

    def __post_init__(self) -> None:
        object.__setattr__(self, "_session", session(self.content))

    @staticmethod
    def of(
        model: nn.Module,
        inputs: Inputs,
        contract: InputSpec | None = None,
        task: TaskSpec | None = None,
        about: Mapping[str, str] | None = None,
    ) -> OnnxNet:
        """A float32 net on the CPU, in eval mode, for any batch size. Inputs have the names of `specs_of`: "input"; of
        several "input_0", "input_1" …, or their own. Outputs are "output"; "output_0", "output_1" … What is
        known of the preparation of its inputs and of its task goes to the metadata (`described`), beside `about`.

        Raises CompressitError if a package of the extra `onnx` is missing, the model exceeds ONNX's 2 GB or cannot be
        converted.
        """
        check_packages()
        if tensor_bytes(model) > MOST_BYTES:
            raise CompressitError("the model exceeds the 2 GB limit of ONNX files", "use --to torch-export")
        told = {**described(inputs, contract, task), **(about or {})}
        return OnnxNet(_converted(model, inputs, told), inputs)

    def __call__(self, x: InputTensors) -> list[Tensor]:
        """All output tensors for a batch, on the CPU."""
        return [torch.from_numpy(array) for array in self.run(self.arrays(x))]

    def arrays(self, x: InputTensors) -> dict[str, Any]:
        """A batch as numpy arrays by the inputs' names."""
        tensors = zip(specs_of(self.inputs), tensors_of(x), strict=True)
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors}

    def run(self, arrays: Mapping[str, Any]) -> list[Any]:
        """All outputs as numpy arrays."""
        try:
            return self._session.run(None, arrays)  # type: ignore[attr-defined]
        except Exception as error:
            raise CompressitError(f"onnxruntime cannot run the exported model: {error}") from error

    def outputs(self, split: Split) -> Tensor:
        """The first output for all examples of a split, (N, ...), in their stored order."""
        parts = [self(x)[0] for x, _ in split.ordered(min(64, fitting(4 * values_of(self.inputs))))]
        return torch.cat(parts)


def session(content: bytes) -> Any:
    """An onnxruntime session on the CPU with torch's number of threads, which do not spin while they wait: others may
    be measured meanwhile. Raises CompressitError for what onnxruntime cannot load."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CompressitError(
            f"onnxruntime cannot load the exported model: {error}",
            "it supports every operator in float32 only: save `net.float()` and export that file",
        ) from error


def check_packages() -> None:
    """Raises CompressitError unless the packages of the extra `onnx` are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CompressitError(
            f"export to ONNX needs {', '.join(missing)}", "install them: pip install 'compressit[onnx]'"
        )


def described(inputs: Inputs, contract: InputSpec | None, task: TaskSpec | None) -> dict[str, str]:
    """What a program must know to use the file, as JSON texts: `inputs` (shape without the batch, type and range of
    each), `scale` with `mean` and `std` (per channel, of pixels in 0..1; null: taken as they are), `class_names` in the
    order of the outputs, `task`. And `preparation`, the same in words."""
    single = len(specs_of(inputs)) == 1
    told: dict[str, Any] = {"inputs": to_json(inputs) if not single else {"input": to_json(inputs)}}
    words = "Give values as they are, in their range."
    if contract is not None:
        told |= {"scale": contract.scale, "mean": contract.mean, "std": contract.std}
        told |= {"class_names": contract.class_names}
        if contract.mean is not None:
            words = (
                "Scale values to their range (pixels to 0..1), subtract mean and divide by std, per channel."
            )
    if task is not None:
        told |= {"task": task.uses}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    return {**texts, "preparation": words}


def _converted(model: nn.Module, inputs: Inputs, about: Mapping[str, str]) -> bytes:
    floating = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    x, names = probe_input(inputs, floating), list(specs_of(inputs))
    sizes = [{0: "batch"} for _ in names]
    count = len(outputs(model, x))
    program = trace(model, x)
    try:
        with _silent(), quiet():
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=names,
                output_names=["output"] if count == 1 else [f"output_{n}" for n in range(count)],
                dynamic_shapes=dict(zip(names, sizes, strict=True))
                if isinstance(inputs, dict)
                else tuple(sizes),
                verbose=False,
            )
    except Exception as error:
        raise CompressitError(
            f"torch's exporter cannot convert the model to ONNX: {reason(error)}",
            "use only operations that ONNX supports, or export with `--to torch-export` or `--to folder`",
        ) from error
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # removes paths and source lines of this machine
    made.model.metadata_props.update({"compressit": importlib.metadata.version("compressit"), **about})
    return made.model_proto.SerializeToString()


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
