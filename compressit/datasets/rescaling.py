"""Rescales inputs for a model that was trained with another mean and deviation than the data have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn, tensor

from compressit.datasets.splits import InputSpec


def fed(model: nn.Module, own: InputSpec | None, data: InputSpec) -> nn.Module:
    """The model, made to accept the inputs of these data. `own`: the model's own input contract, if known.

    Adds a forward pre-hook that scales inputs back to pixels in 0..1, and then by the model's mean and deviation.
    Changes nothing if both contracts agree or `own` is None.
    """
    if own is None or (own.mean, own.std) == (data.mean, data.std):
        return model
    model.register_forward_pre_hook(_Rescaled(_statistics(data), _statistics(own)))
    return model


@dataclass(frozen=True)
class _Rescaled:
    """A forward pre-hook. Statistics are (mean, deviation) per channel, the dimension after the batch."""

    given: tuple[tuple[float, ...], tuple[float, ...]]
    wanted: tuple[tuple[float, ...], tuple[float, ...]]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = inputs
        (mean, std), (own_mean, own_std) = self.given, self.wanted
        return ((x * _row(std, x) + _row(mean, x) - _row(own_mean, x)) / _row(own_std, x), *others)


def _statistics(contract: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if contract.mean is None or contract.std is None:
        return (0.0,), (1.0,)
    return contract.mean, contract.std


def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
    return tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.ndim - 2))
