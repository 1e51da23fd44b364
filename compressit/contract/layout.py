"""Images channels last in memory where the net has two-dimensional convolutions, whose kernels are faster so.

A layout says where values lie, not which they are. `channels_last` is torch's own (torch.memory_format).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from compressit.contract.nets import copied
from compressit.datasets.batched import InputTensors, call, each_tensor, tensors_of
from compressit.seeds import seeded

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SAME = 1e-2  # of the largest output: rounding differs by less, wrong addresses by more

# What `runs_channels_last` found, with the layers it found it for.
_FOUND: WeakKeyDictionary[nn.Module, tuple[tuple[type, ...], bool]] = WeakKeyDictionary()


def laid_out(x: Tensor, last: bool) -> Tensor:
    """`x`; if `last`, images (N, C, H, W) channels last."""
    return x.to(memory_format=torch.channels_last) if last and x.ndim == 4 else x


def runs_channels_last(model: nn.Module, x: InputTensors) -> bool:
    """Whether inputs like `x` (N, ...) are given to the net channels last: it has two-dimensional convolutions, takes
    images (N, C, H, W), alone or among other tensors, and computes the same so. Many nets do not: `view` refuses to
    flatten this layout.

    Tried on a copy, forward and backward, once for each net. A net with hooks keeps the usual layout: a trial would
    call them.
    """
    if all(tensor.ndim != 4 for tensor in tensors_of(x)):
        return False
    layers = tuple(map(type, model.modules()))
    if not any(issubclass(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in layers):
        return False
    if any(getattr(layer, hook, None) for layer in model.modules() for hook in _HOOKS):
        return False
    known = _FOUND.get(model)
    if known is None or known[0] != layers:
        _FOUND[model] = known = layers, _tried(model, x)
    return known[1]


def _tried(model: nn.Module, x: InputTensors) -> bool:
    generator = torch.Generator().manual_seed(0)

    def like(tensor: Tensor) -> Tensor:
        """Two of them. Floats are drawn, so that the answer is the same for all data; which whole numbers a net takes
        is not known here, so they are the first example's."""
        if not tensor.is_floating_point():
            return tensor[:1].repeat(2, *[1] * (tensor.ndim - 1))
        return torch.rand(2, *tensor.shape[1:], generator=generator).to(tensor.device, tensor.dtype)

    def last(tensor: Tensor) -> Tensor:
        return laid_out(tensor, True)

    drawn = each_tensor(x, like)
    try:
        net = copied(model)
        with seeded(0), torch.enable_grad(), torch.autocast(tensors_of(x)[0].device.type, enabled=False):
            net.eval()
            usual, other = call(net, drawn), call(net, each_tensor(drawn, last))
            largest = float(usual.detach().abs().max())
            if not torch.allclose(usual, other, rtol=0, atol=_SAME * largest, equal_nan=True):
                return False
            outputs = call(
                net.train(), each_tensor(drawn, lambda x: last(x).requires_grad_(x.is_floating_point()))
            )
            if outputs.requires_grad:
                outputs.sum().backward()
    except Exception:  # noqa: BLE001 - somebody's net; what fails in the usual layout too is told where it is used
        return False
    return True


class Layout:
    """The layout of a training. The first inputs decide it: then weights and the optimizer's state follow."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model = model
        self._optimizer = optimizer
        self._last: bool | None = None

    def inputs(self, x: InputTensors) -> InputTensors:
        """A batch as the net is given it."""
        if self._last is None:
            self._last = runs_channels_last(self._model, x)
            if self._last:
                self._arrange(torch.channels_last)
        return each_tensor(x, lambda tensor: laid_out(tensor, True)) if self._last else x

    def outputs(self, outputs: object) -> object:
        """What the net returned, in the usual layout: a loss may flatten it by `view`."""
        return outputs.contiguous() if self._last and isinstance(outputs, Tensor) else outputs

    def end(self) -> None:
        """Gives the net's weights the usual layout."""
        if self._last:
            self._arrange(torch.contiguous_format)

    def _arrange(self, layout: torch.memory_format) -> None:
        for parameter in self._model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=layout)
        for parameter, slots in self._optimizer.state.items():
            for name, value in slots.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim == 4:
                    slots[name] = value.to(memory_format=layout)  # fused kernels go through both in step
