"""The moving average of a training's weights."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """An exponential moving average of weights and running statistics: of all floats of the state dict.

    Each step moves it towards them by 1 - `decay`; none without a decay. Warm-up as in timm's ModelEmaV3: in step s,
    from 0, the decay is at most 1 - (1 + s)^(-2/3), so the average of the first step is its weights. Whole numbers, as
    how many batches a norm has seen, are the latest. A weight that is zero now is zero in the average too, so that
    pruning while training holds.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        found = {id(t): (name, t) for name, t in model.state_dict(keep_vars=True).items() if _floats(t)}
        self._now: dict[str, Tensor] = {} if decay is None else dict(found.values())
        self._decay = decay
        self._restored: Mapping[str, Tensor] = {}
        self._mean: list[Tensor] = []

    def update(self, step: int) -> None:
        """Takes in the weights after step `step`, from 0."""
        if self._decay is None:
            return
        now = [tensor.detach() for tensor in self._now.values()]
        if not self._mean:  # now, since the first step decides the layout of the weights in memory
            self._mean = [
                tensor.clone()
                if name not in self._restored
                else torch.empty_like(tensor).copy_(self._restored[name])
                for name, tensor in zip(self._now, now, strict=True)
            ]
        get_ema_multi_avg_fn(min(self._decay, 1 - (1 + step) ** (-2 / 3)))(self._mean, now, step)

    @contextmanager
    def shown(self) -> Generator[None]:
        """A block in which the net has the average in place of its weights."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Gives the net the average, and keeps what it had as the average."""
        for at, (tensor, mean) in enumerate(zip(self._now.values(), self._mean, strict=False)):
            if tensor.ndim > 1:
                mean.masked_fill_(tensor.detach() == 0, 0)
            self._mean[at], tensor.data = tensor.data, mean

    def tensors(self) -> dict[str, Tensor]:
        """The average by name, to save."""
        return dict(zip(self._now, self._mean, strict=False))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave."""
        self._restored = tensors


def _floats(value: object) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
