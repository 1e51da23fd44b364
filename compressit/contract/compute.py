"""Devices, precision, threads and forward passes. Only this module deals with them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from compressit.contract.cpu import cpu_flags
from compressit.contract.layout import laid_out, runs_channels_last
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
from compressit.processes.forked import Ended, asked

Precision = Literal["fp32", "bf16", "fp64"]
_PRECISIONS = get_args(Precision)

INPUT_BYTES = 2**26
MOST_AT_ONCE = 2048
"""Of the inputs of one forward pass without gradients: their bytes, and their number."""
FORK_SECONDS = 60.0  # that a forked process has for one gradient


@dataclass(frozen=True)
class Compute:
    """Where and how tensors are computed. Precision and `compile` are part of a result's key, the device is not."""

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False

    @staticmethod
    def select(device: str = "auto", precision: str = "fp32", compile: bool = False) -> Compute:  # noqa: A002
        """`auto` is CUDA if torch finds a GPU, else the CPU.

        Raises CompressitError if CUDA is not available, and for an unknown device or precision.
        """
        _check_known("precision", precision, _PRECISIONS)
        chosen = device_of(device)
        if chosen == "cuda":
            # For bit-equal results on the same GPU: cuBLAS needs a fixed workspace before its first call.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.cuda.init()  # from now on `seeds.seeded` covers CUDA's random numbers too
        return Compute(chosen, cast("Precision", precision), compile)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, inputs and losses: float64 for fp64, else float32 (bf16 is autocast)."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def placed(self, model: nn.Module) -> nn.Module:
        """The model itself, on the device; for fp64 with float64 weights."""
        return model.to(self.device, torch.float64) if self.precision == "fp64" else model.to(self.device)

    def typed(self, x: Tensor) -> Tensor:
        """Inputs or targets; for fp64, floats as float64."""
        return x.double() if self.precision == "fp64" and x.is_floating_point() else x

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast if the recipe asks for it, else a context that does nothing."""
        if self.precision == "bf16":
            return torch.autocast(self.device, dtype=torch.bfloat16)
        return nullcontext()

    def forward(self, model: nn.Module, x: InputTensors | Split, batch_size: int | None = None) -> Tensor:
        """The model's outputs (N, ...) in eval mode, in `dtype`, without gradients; its mode is restored.

        `x`: inputs (N, *shape), or a tuple or dict of them, or a split's, in their stored order. `batch_size`: by
        default as many as take INPUT_BYTES, but no more than MOST_AT_ONCE. Images go channels last where the net runs
        so (`layout`).
        Raises CompressitError for outputs that are not one tensor, for weights of another floating type, and for a
        model that changes its inputs.
        """
        try:
            # not inference_mode: its outputs cannot be used as targets of a loss
            with in_eval_mode(model), torch.no_grad(), self.autocast():
                parts = _parts(x, batch_size)
                first = each_tensor(next(parts), self.typed)
                last = runs_channels_last(model, first)
                first = each_tensor(
                    first, lambda tensor: laid_out(tensor.clone(), last)
                )  # shows what is done to it
                before = [tensor._version for tensor in tensors_of(first)]
                outputs = [check_tensor(call(model, first)).to(self.dtype)]
                if [tensor._version for tensor in tensors_of(first)] != before:
                    raise changes_inputs()
                laid = (
                    each_tensor(part, lambda tensor: laid_out(self.typed(tensor), last)) for part in parts
                )
                outputs += [check_tensor(call(model, part)).to(self.dtype) for part in laid]
                return torch.cat(outputs).contiguous()
        except Exception as error:
            some = x.some(1) if isinstance(x, Split) else each_tensor(x, lambda tensor: tensor[:1])
            some = each_tensor(some, self.typed)
            if not isinstance(error, CompressitError) and (fault := fault_of(model, some)) is not None:
                raise fault from error
            raise


def device_of(device: str) -> str:
    """What `auto`, `cpu` or `cuda` is on this machine: "cpu" or "cuda", which is not used yet. Raises as `select`."""
    _check_known("device", device, ("auto", "cpu", "cuda"))
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise CompressitError(
            "compute.device is 'cuda', but torch sees no CUDA device",
            "use `device: auto`, or install a torch build for your driver",
        )
    return "cuda" if device == "cuda" or (device == "auto" and available) else "cpu"


def _check_known(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise CompressitError(f"compute.{option} is '{value}'", did_you_mean(value, known))


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


def precision_of(model: nn.Module) -> Precision:
    """The precision that runs a net as it is: fp64 where all its weights are float64, else fp32."""
    types = {value.dtype for value in model.parameters() if value.is_floating_point()}
    return "fp64" if types == {torch.float64} else "fp32"


def fitting(size: int) -> int:
    """How many examples of `size` bytes are evaluated at once."""
    return max(1, min(MOST_AT_ONCE, INPUT_BYTES // max(size, 1)))


def set_threads(threads: int) -> None:
    """Sets the threads of torch operations in this process. Results are bit-equal only for the same number."""
    torch.set_num_threads(threads)


def forks_compute(device: str = "cpu") -> bool:
    """Whether a process forked from this one can compute gradients on the device: one is asked to. It cannot once this
    one has used CUDA, or torch has started threads for gradients here, which it does where it sees a GPU, and after
    some exports (torch's note "Autograd and Fork")."""
    try:
        return bool(asked(partial(_a_gradient, device), FORK_SECONDS, shown=False))
    except Ended:
        return False


def _a_gradient(device: str) -> bool:
    x = torch.ones(1, requires_grad=True, device=device)
    (2 * x).sum().backward()
    return x.grad is not None


def host_facts() -> dict[str, str | int]:
    """Facts about this machine that measurements depend on. Recorded with every result."""
    return {
        "host": platform.node(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "cpu": " ".join(cpu_flags()),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }
