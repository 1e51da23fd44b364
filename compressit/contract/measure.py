"""Measures a model's size and computation, with the same counters for dense and compressed models."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressit.contract.nets import in_eval_mode
from compressit.datasets.batched import InputTensors, call, zero_inputs
from compressit.datasets.specs import Inputs, as_inputs


def parameters(model: nn.Module) -> int:
    """The number of parameters, including biases. Tied parameters count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """The number of nonzero parameters. Tied parameters count once."""
    return sum(int(parameter.detach().count_nonzero()) for parameter in model.parameters())


def tensor_bytes(model: nn.Module) -> int:
    """Bytes of the state dict's tensors, including buffers, in their own dtypes. Tied tensors count once."""
    values = model.state_dict(
        keep_vars=True
    ).values()  # the tensors themselves: tied ones are the same object
    tensors = {id(value): value for value in values if isinstance(value, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def hidden_width(model: nn.Module) -> int | None:
    """Units of the widest hidden layer; None if there is no hidden layer. Hidden layers are all linear and
    convolutional layers except the last.

    A layer has as many units as outputs if a later layer takes a multiple of that number of inputs (more than once if
    flattened or concatenated). Otherwise it has fewer units: the pieces of a maxout, the gates of a GLU.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]  # pyright: ignore[reportPrivateUsage]
    widths = [_size(layer, "out") for layer in layers]
    taken = [_size(layer, "in") for layer in layers]
    return max((_handed_on(out, taken[at:]) for at, out in enumerate(widths[:-1], 1)), default=None)


def _size(layer: nn.Module, side: str) -> int:
    return cast("int", getattr(layer, f"{side}_features", None) or getattr(layer, f"{side}_channels", 0))


def _handed_on(outputs: int, taken: Sequence[int]) -> int:
    """The units of a layer with this many outputs, if later layers have `taken` inputs."""
    if not outputs or any(inputs % outputs == 0 for inputs in taken if inputs):
        return outputs
    return max((inputs for inputs in taken if inputs and outputs % inputs == 0), default=outputs)


def answers(logits: Tensor) -> Tensor:
    """The predicted class (N,) int64 of each row of logits (N, K); -1 for a row with a NaN."""
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


def macs(model: nn.Module, inputs: Inputs | InputTensors | Sequence[int]) -> int:
    """MACs for one input: half of FlopCounterMode's count. `inputs`: `data.contract.inputs`, or a shape without the
    batch, or tensors (1, ...) on the model's device.

    Counts matrix products, convolutions and attention, including zero weights; not biases, norms and activations.
    Does not change the model.
    """
    x = inputs if _are_tensors(inputs) else _zeros(model, as_inputs(inputs))
    with _counted_as_written(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(model, x)
    return counter.get_total_flops() // 2


def _are_tensors(inputs: object) -> TypeGuard[InputTensors]:
    several = list(inputs.values()) if isinstance(inputs, dict) else inputs
    return isinstance(several, Tensor) or (
        isinstance(several, tuple | list) and all(isinstance(tensor, Tensor) for tensor in several)
    )


def _zeros(model: nn.Module, inputs: Inputs) -> InputTensors:
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return zero_inputs(inputs, 1, first.dtype, first.device)


@contextmanager
def _counted_as_written(model: nn.Module) -> Generator[None]:
    """Sets eval mode, runs attention as plain matrix products (the counter cannot look into fused kernels), and turns
    gradients off (the counter's hooks fail when a layer gets a view of a parameter)."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.is_leaf]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with in_eval_mode(model), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in wanted:
            parameter.requires_grad_(True)


def r2(outputs: Tensor, wanted: Tensor) -> float:
    """R²: the share of the variance of `wanted` (N, ...) that `outputs` explain, the mean over an example's values.

    A value that is the same in all examples counts 1 where the outputs are the very same, else 0, as in scikit-learn.
    """
    outputs, wanted = outputs.double().flatten(1), wanted.double().flatten(1)
    left = (outputs - wanted).square().sum(0)
    whole = (wanted - wanted.mean(0)).square().sum(0)
    shares = torch.where(whole > 0, 1 - left / whole, (left == 0).double())
    return float(shares.mean())
