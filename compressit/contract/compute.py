"""Devices, precision, threads and forward passes. Only this module deals with them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compressit.contract.nets import changes_inputs, check_tensor, fault_of, in_eval_mode
from compressit.datasets.batched import (
    InputTensors,
    built,
    call,
    each_tensor,
    examples_in,
    tensors_of,
    volume,
)
from compressit.datasets.batching import batch_sizes
from compressit.datasets.splits import Split
from compressit.errors import CompressitError, did_you_mean

INPUT_BYTES = 2**26
MOST_AT_ONCE = 2048
"""Of the inputs of one forward pass without gradients: their bytes, and their number."""


@dataclass(frozen=True)
class Compute:
    """Where and how tensors are computed. Precision and `compile` are part of a result's key, the device is not."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    @staticmethod
    def select(device: str = "auto", precision: str = "fp32", compile: bool = False) -> Compute:  # noqa: A002
        """`auto` is CUDA if torch finds a GPU, else the CPU.

        Raises CompressitError if CUDA is not available, and for an unknown device or precision.
        """
        for option, value, known in (
            ("device", device, ("auto", "cpu", "cuda")),
            ("precision", precision, ("fp32", "bf16")),
        ):
            if value not in known:
                raise CompressitError(f"compute.{option} is '{value}'", did_you_mean(value, known))
        available = torch.cuda.is_available()
        if device == "cuda" and not available:
            raise CompressitError(
                "compute.device is 'cuda', but torch sees no CUDA device",
                "use `device: auto`, or install a torch build for your driver",
            )
        chosen = "cuda" if device == "cuda" or (device == "auto" and available) else "cpu"
        if chosen == "cuda":
            # For bit-equal results on the same GPU: cuBLAS needs a fixed workspace before its first call.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.cuda.init()  # from now on `seeds.seeded` covers CUDA's random numbers too
        return Compute(chosen, "bf16" if precision == "bf16" else "fp32", compile)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast if the recipe asks for it, else a context that does nothing."""
        if self.precision == "bf16":
            return torch.autocast(self.device, dtype=torch.bfloat16)
        return nullcontext()

    def forward(self, model: nn.Module, x: InputTensors | Split, batch_size: int | None = None) -> Tensor:
        """The model's outputs in eval mode, float32 (N, ...), without gradients; its mode is restored.

        `x`: inputs (N, *shape), or a tuple or dict of them, or a split's, in their stored order. `batch_size`: by
        default as many as take INPUT_BYTES, but no more than MOST_AT_ONCE.
        Raises CompressitError for outputs that are not one tensor, for weights of another floating type, and for a
        model that changes its inputs.
        """
        try:
            # not inference_mode: its outputs cannot be used as targets of a loss
            with in_eval_mode(model), torch.no_grad(), self.autocast():
                parts = _parts(x, batch_size)
                first = each_tensor(next(parts), torch.clone)  # what works in place shows itself on it
                outputs = [check_tensor(call(model, first)).float()]
                if any(tensor._version for tensor in tensors_of(first)):
                    raise changes_inputs()
                return torch.cat([*outputs, *(check_tensor(call(model, part)).float() for part in parts)])
        except Exception as error:
            some = x.some(1) if isinstance(x, Split) else each_tensor(x, lambda tensor: tensor[:1])
            if not isinstance(error, CompressitError) and (fault := fault_of(model, some)) is not None:
                raise fault from error
            raise


def _parts(x: InputTensors | Split, batch_size: int | None) -> Iterator[InputTensors]:
    """The inputs in batches, at least one."""
    if isinstance(x, Split):
        size = batch_size or fitting(4 * volume(x.shape))
        yield from (inputs for inputs, _ in x.ordered(size))
        return
    tensors = tensors_of(x)
    size = batch_size or fitting(sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors))
    sizes = batch_sizes(examples_in(x), size) or [0]
    for parts in zip(*(tensor.split(sizes) for tensor in tensors), strict=True):
        yield built(x, parts)


def fitting(size: int) -> int:
    """How many examples of `size` bytes are evaluated at once."""
    return max(1, min(MOST_AT_ONCE, INPUT_BYTES // max(size, 1)))


def set_threads(threads: int) -> None:
    """Sets the threads of torch operations in this process. Results are bit-equal only for the same number."""
    torch.set_num_threads(threads)


def host_facts() -> dict[str, str | int]:
    """Facts about this machine that measurements depend on. Recorded with every result."""
    return {
        "host": platform.node(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }
