"""How large a model is and how much it computes: the same counters for every model, dense or compressed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressit.contract.nets import in_eval_mode


def parameters(model: nn.Module) -> int:
    """All parameters, biases included; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Parameters that are not zero; tied ones once."""
    return sum(int(parameter.detach().count_nonzero()) for parameter in model.parameters())


def tensor_bytes(model: nn.Module) -> int:
    """Bytes of the state dict's tensors (buffers included) at their own dtypes; tied ones once."""
    values = model.state_dict(keep_vars=True).values()  # the very tensors: tied ones are told by identity
    tensors = {id(value): value for value in values if isinstance(value, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def hidden_width(model: nn.Module) -> int | None:
    """Units of the widest hidden layer: the outputs of every linear and convolutional layer but the last, as many of
    them as later layers take; None where there is no hidden layer.

    A layer whose outputs no later one takes whole (or several times over: flattened, concatenated) hands on fewer
    units than it has outputs: the pieces of a maxout, the gates of a GLU.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]  # pyright: ignore[reportPrivateUsage]
    widths = [_size(layer, "out") for layer in layers]
    taken = [_size(layer, "in") for layer in layers]
    return max((_handed_on(out, taken[at:]) for at, out in enumerate(widths[:-1], 1)), default=None)


def _size(layer: nn.Module, side: str) -> int:
    return cast("int", getattr(layer, f"{side}_features", None) or getattr(layer, f"{side}_channels", 0))


def _handed_on(outputs: int, taken: Sequence[int]) -> int:
    """How many units layers that take `taken` inputs have from one with so many outputs."""
    if not outputs or any(inputs % outputs == 0 for inputs in taken if inputs):
        return outputs
    return max((inputs for inputs in taken if inputs and outputs % inputs == 0), default=outputs)


def answers(logits: Tensor) -> Tensor:
    """The class (N,) int64 that each row of logits (N, K) answers with; -1, which is no class, for one with a NaN."""
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """MACs of one input of `input_shape` (without the batch): half of FlopCounterMode's count.

    Matrix products, convolutions and attention count, zero weights included; biases, norms and activations do
    not. The model is left as it was found.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype)
    with _counted_as_written(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


@contextmanager
def _counted_as_written(model: nn.Module) -> Generator[None]:
    """Eval mode, attention as plain matrix products (the counter sees nothing inside fused kernels), and no gradients:
    the counter's hooks fail on a view of a parameter that a layer is given."""
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
