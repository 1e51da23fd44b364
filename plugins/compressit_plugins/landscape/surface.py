"""The loss of a net over some examples, as a function of its weights: values, gradients, Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from compressit import InputTensors, StageContext, call, copied, each_tensor, tensors_of
from compressit_plugins.landscape.weights import FlatWeights
from compressit_plugins.prune.batch_norm import recalibrate, running_norms

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs (B, ...) and targets (B, ...) the loss of each example, (B,)."""

_EXAMPLES = 512
_BYTES = 2**21
# Of the inputs that one graph is made of: their number, and their bytes.
_ENTRIES = (
    2**16
)  # of the directions that one backward pass takes together, which is faster for small nets only


@dataclass(frozen=True)
class Surface:
    """The mean loss of a net in eval mode over fixed examples, at any weights: a vector (n,) as `weights` lays it out.

    Vectors, directions and results are on the examples' device and of `start`'s dtype, float32 or float64. Nothing here
    changes the net or has gradients of its own.
    """

    net: nn.Module  # a copy; its own weights are not used
    weights: FlatWeights
    start: Tensor  # (n,) the weights that the net has
    examples: tuple[tuple[InputTensors, Tensor], ...]  # in parts, each of which one graph is made of
    loss_of: Loss

    @staticmethod
    def of(
        model: nn.Module,
        ctx: StageContext,
        images: int,
        dtype: torch.dtype | None = None,
        loss_of: Loss | None = None,
    ) -> Surface:
        """Over `images` training examples, at most all, drawn by the stream "examples".

        `dtype`: by default that of the run, float32 for bf16. `loss_of`: by default the task's. Raises CompressitError
        for a net without weights, and for outputs that are not what the task needs.
        """
        dtype = dtype or ctx.compute.dtype
        net = copied(model).eval().to(dtype)
        weights = FlatWeights.of(model, ctx)
        split = ctx.data.train
        drawn = torch.randperm(len(split), generator=ctx.streams.generator("examples"))[:images].sort().values
        at_once = max(1, min(_EXAMPLES, _BYTES // _bytes(split.some(1))))
        typed = partial(_typed, dtype=dtype)
        read = split.visit(part.to(split.y.device) for part in drawn.split(at_once))
        examples = tuple((each_tensor(x, typed), typed(y)) for x, y in read)
        found = Surface(net, weights, weights.flat(model, dtype), examples, loss_of or ctx.task.loss)
        ctx.task.check(found.outputs(found.start))
        return found

    def __len__(self) -> int:
        """The number of weights, n."""
        return len(self.weights)

    @property
    def images(self) -> int:
        """The number of examples."""
        return sum(len(y) for _, y in self.examples)

    def with_loss(self, loss_of: Loss) -> Surface:
        """The same net and examples with another loss."""
        return replace(self, loss_of=loss_of)

    def net_at(self, at: Tensor) -> nn.Module:
        """A copy of the net with these weights (n,), in eval mode."""
        return self.weights.net(self.net, at)

    def settled(self, at: Tensor) -> Surface:
        """The same loss with the statistics of batch norms measured again at these weights, on its own examples; itself
        for a net without batch norms that keep statistics."""
        if not running_norms(self.net):
            return self
        net = self.net_at(at)
        recalibrate(net, (x for x, _ in self.examples))
        return replace(self, net=net)

    @torch.no_grad()
    def outputs(self, at: Tensor) -> Tensor:
        """The net's outputs (N, ...) for all examples."""
        return torch.cat([self._outputs(at, x) for x, _ in self.examples])

    @torch.no_grad()
    def loss(self, at: Tensor) -> Tensor:
        """The mean loss, a scalar."""
        return torch.stack(list(self._parts(at))).sum()

    def gradient(self, at: Tensor) -> Tensor:
        """The gradient of the mean loss, (n,)."""
        return self.value_and_gradient(at)[1]

    def value_and_gradient(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, a scalar, and its gradient (n,)."""
        value, slope = at.new_zeros(()), torch.zeros_like(at)
        with _differentiable(at) as point:
            for part in self._parts(point):
                slope += torch.autograd.grad(part, point)[0]
                value += part.detach()
        return value, slope

    def hvp(self, at: Tensor, directions: Tensor) -> Tensor:
        """The Hessian of the mean loss times each direction: (k, n) of (k, n).

        All directions share one forward pass and one graph of the gradient (Pearlmutter 1994, by backward passes
        through it).
        """
        found = torch.zeros_like(directions)
        together = max(1, _ENTRIES // len(at))
        with _differentiable(at) as point:
            for part in self._parts(point):
                (slope,) = torch.autograd.grad(part, point, create_graph=True)
                if not slope.requires_grad:
                    continue  # a loss that is linear in the weights
                for rows, into in zip(directions.split(together), found.split(together), strict=True):
                    into += _products(slope, point, rows)
        return found

    def hessian(self, at: Tensor) -> Tensor:
        """The whole Hessian (n, n), symmetric, for nets of a few thousand weights at most."""
        found = self.hvp(at, torch.eye(len(at), dtype=at.dtype, device=at.device))
        return (found + found.T) / 2

    def _parts(self, at: Tensor) -> Iterator[Tensor]:
        """What each part of the examples adds to the mean loss."""
        for x, y in self.examples:
            yield self.loss_of(self._outputs(at, x), y).sum() / self.images

    def _outputs(self, at: Tensor, x: InputTensors) -> Tensor:
        named = self.weights.named(at)
        return call(lambda *args, **kwargs: functional_call(self.net, named, args, kwargs), x)


@contextmanager
def _differentiable(at: Tensor) -> Generator[Tensor]:
    """The point as a leaf; attention by plain products, since its fused kernels have no second derivative."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield at.detach().clone().requires_grad_()


def _products(slope: Tensor, point: Tensor, directions: Tensor) -> Tensor:
    """The derivatives of each directions (k, n) · slope (n,)."""
    backward = partial(torch.autograd.grad, slope, point, retain_graph=True, materialize_grads=True)
    if len(directions) == 1:
        return backward(directions[0])[0][None]
    return backward(directions, is_grads_batched=True)[0]


def _typed(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values


def _bytes(inputs: InputTensors) -> int:
    """Of one example."""
    return sum(prod(x.shape[1:]) * x.element_size() for x in tensors_of(inputs)) or 1
