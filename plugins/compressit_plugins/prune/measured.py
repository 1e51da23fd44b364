"""Scores of single weights that are measured on training examples, in eval mode: dropout and augmentation are off."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressit import CompressitError, InputTensors, StageContext, call, each_tensor

Weights = Mapping[str, nn.Parameter]
_BATCH = 32  # examples whose gradients are averaged before their absolute value is taken
_LINEAR = (nn.Linear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
_BATCH_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True)
class Calibration:
    """A sample of the training examples, the same in every round and at every pruning."""

    ctx: StageContext
    examples: int  # how many are wanted

    def batches(self) -> Iterator[tuple[InputTensors, Tensor]]:
        """Inputs and targets of up to `_BATCH` examples, which `examples` or fewer are in all, as they are measured."""
        train = self.ctx.data.train
        drawn = torch.randperm(len(train), generator=self.ctx.streams.generator("calibration"))
        compute = self.ctx.compute
        for inputs, targets in train.visit(drawn[: self.examples].to(train.y.device).split(_BATCH)):
            yield each_tensor(inputs, compute.typed), compute.typed(targets)

    def gradients(self, model: nn.Module, weights: Weights) -> Iterator[tuple[int, list[Tensor]]]:
        """For each batch its number of examples, and the gradients of the training loss with respect to the weights."""
        loss = self.ctx.task.objective(self.ctx.data.train.y)
        for inputs, targets in self.batches():
            with self.ctx.compute.autocast():
                value = loss(call(model, inputs), targets)
            # of a weight without influence, the gradient is zero
            wanted = list(weights.values())
            slopes = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
            yield len(targets), list(slopes)


def gradient(model: nn.Module, weights: Weights, calibration: Calibration) -> dict[str, Tensor]:
    """The mean over minibatches of |w · dL/dw|, the first-order change of the loss when w becomes zero (Molchanov et
    al., "Pruning convolutional neural networks for resource efficient inference", 2017, equation 8, for single
    weights). The absolute value stands within the mean: the mean gradient of a trained net is about zero."""
    sums, seen = _zeros(weights), 0
    with _measuring(model, weights):
        for count, slopes in calibration.gradients(model, weights):
            seen += count
            for total, weight, slope in zip(sums.values(), weights.values(), slopes, strict=True):
                total.add_((weight.detach() * slope).abs(), alpha=count)
    return {name: total / seen for name, total in sums.items()}


def snip(model: nn.Module, weights: Weights, calibration: Calibration) -> dict[str, Tensor]:
    """|w · dL/dw|, where L is the mean over all calibration examples: how much the loss depends on the presence of w
    (Lee et al., "SNIP", 2019, equations 4 and 5, without their division by the sum, which changes no order). Batch
    norms use the statistics of their batch, as in training, for nets that have none yet."""
    sums, seen = _zeros(weights), 0
    with _measuring(model, weights, norms_train=True):
        for count, slopes in calibration.gradients(model, weights):
            seen += count
            for total, slope in zip(sums.values(), slopes, strict=True):
                total.add_(slope, alpha=count)
    return {name: (weights[name].detach() * total).abs() / seen for name, total in sums.items()}


def wanda(model: nn.Module, weights: Weights, calibration: Calibration) -> dict[str, Tensor]:
    """|w| · ‖x‖₂, where x are the values of all calibration examples, and of all places where a convolution looks, that
    the weight is multiplied with (Sun et al., "A simple and effective pruning approach for large language models",
    2023).

    Raises CompressitError for weights that are not those of a linear or convolutional layer that the net calls.
    """
    squares = _zeros(weights)
    read: set[str] = set()

    def see(name: str, layer: nn.Module, args: tuple[Any, ...]) -> None:
        if layer.weight is not weights[name]:  # `_squares` calls it with a probe
            return
        read.add(name)
        squares[name].add_(_squares(layer, weights[name], args[0].detach()))

    hooks = [layer.register_forward_pre_hook(partial(see, name)) for name, layer in readers(model, weights)]
    try:
        with _measuring(model, {}), torch.no_grad():
            for inputs, _ in calibration.batches():
                call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    refuse_unread(weights, read)
    return {name: weight.detach().abs() * squares[name].sqrt() for name, weight in weights.items()}


def readers(model: nn.Module, weights: Weights) -> list[tuple[str, nn.Module]]:
    """The linear and convolutional layers that have one of these weights, with its name."""
    names = {id(weight): name for name, weight in weights.items()}
    layers = [layer for layer in model.modules() if isinstance(layer, _LINEAR)]
    return [(names[id(layer.weight)], layer) for layer in layers if id(layer.weight) in names]


def refuse_unread(weights: Weights, read: Collection[str]) -> None:
    """Raises CompressitError if the input of a weight is not known."""
    unread = [name for name in weights if name not in read]
    if unread:
        raise CompressitError(
            f"`score: wanda` needs the inputs of each weight, and {', '.join(unread[:3])} is not that of a linear or "
            "convolutional layer that the net calls",
            "`exclude` it, or choose another score",
        )


def _squares(layer: nn.Module, weight: Tensor, inputs: Tensor) -> Tensor:
    """The sum of the squares of what each weight is multiplied with, of the weight's shape.

    The layer is linear in its weight, so this is the slope of the sum of its outputs for the squared inputs: true for
    every stride, padding, dilation and number of groups.
    """
    probe = torch.zeros_like(weight, requires_grad=True)
    with torch.enable_grad():
        outputs = functional_call(layer, {"weight": probe}, (inputs.to(probe.dtype).square(),))
        return torch.autograd.grad(outputs.sum(), probe)[0]


def _zeros(weights: Weights) -> dict[str, Tensor]:
    return {name: torch.zeros_like(weight) for name, weight in weights.items()}


@contextmanager
def _measuring(model: nn.Module, weights: Weights, norms_train: bool = False) -> Generator[None]:
    """While it is open, the model is in eval mode and the weights have gradients. Restores modes, flags and buffers."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(weight, weight.requires_grad) for weight in weights.values()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()] if norms_train else []
    model.eval()
    for module in model.modules():
        if norms_train and isinstance(module, _BATCH_NORM):
            module.train()
    try:
        for weight, _ in flags:
            weight.requires_grad_(True)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, flag in flags:
            weight.requires_grad_(flag)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
