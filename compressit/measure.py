"""How large a model is and how much it computes: the same counters for every model, dense or compressed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """All parameters, biases included; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Parameters that are not zero; tied ones once."""
    return sum(int(parameter.detach().count_nonzero()) for parameter in model.parameters())


def tensor_bytes(model: nn.Module) -> int:
    """Bytes of the state dict's tensors (buffers included) at their own dtypes; tied ones once."""
    values = model.state_dict(
        keep_vars=True
    ).values()  # the very tensors, so that tied ones are told by identity
    tensors = {id(value): value for value in values if isinstance(value, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def hidden_width(model: nn.Module) -> int | None:
    """Units of the widest hidden layer: the outputs of every linear and convolutional layer but the last; None
    where there is none."""
    outputs = [
        cast("int", getattr(m, "out_features", None) or getattr(m, "out_channels", None))
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
    ]
    return max(outputs[:-1], default=None)


def multiply_adds(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one input of `input_shape` (without the batch): half of FlopCounterMode's count.

    Matrix products, convolutions and attention count, zero weights included; biases, norms and activations do
    not. The model is left as it was found.
    """
    first = next(iter(model.parameters()), torch.zeros(()))
    x = torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype)
    with _counted_as_written(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


@contextmanager
def _counted_as_written(model: nn.Module) -> Generator[None]:
    """Eval mode, and attention as plain matrix products: the counter sees nothing inside fused kernels."""
    modes = [(module, module.training) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes:
            module.training = mode
