"""A net as its attacker sees it: a function of the inputs before scaling, and of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from compressit import CompressitError, Compute, StageContext, answers, single_tensor

_AT_ONCE, _VALUES = 256, 2**22
"""The most examples that are attacked together, and the most values of their inputs."""

Measured = Mapping[str, Tensor]
"""What was found for some examples, each (B, ...)."""


@dataclass(frozen=True)
class Victim:
    """A net in eval mode, for inputs (B, *shape) in `low`..`high`, as they are before scaling: pixels in 0..1."""

    model: nn.Module
    compute: Compute
    mean: Tensor  # what scaling subtracts, then divides by; they broadcast with the inputs
    std: Tensor
    low: float
    high: float

    @staticmethod
    def of(model: nn.Module, ctx: StageContext, what: str) -> Victim:
        """A model for the data of `ctx`. Raises CompressitError unless their inputs are one tensor of floats, which
        `what` needs."""
        contract = ctx.data.contract
        spec = single_tensor(contract.inputs, what)

        def row(values: Sequence[float] | None, default: float) -> Tensor:
            numbers = torch.tensor(values or [default], dtype=ctx.compute.dtype, device=ctx.compute.device)
            return numbers.view(-1, *[1] * (len(spec.shape) - 1))

        low, high = (default if end is None else end for end, default in ((spec.low, -inf), (spec.high, inf)))
        return Victim(model, ctx.compute, row(contract.mean, 0.0), row(contract.std, 1.0), low, high)

    def seen(self, scaled: Tensor) -> Tensor:
        """What inputs (B, *shape) as the net takes them were before scaling."""
        return self.inside(self.compute.typed(scaled) * self.std + self.mean)

    def inside(self, x: Tensor) -> Tensor:
        """The nearest inputs (B, *shape) that are in range."""
        return x.clamp(self.low, self.high)

    def logits(self, x: Tensor) -> Tensor:
        """(B, classes), with a graph for gradients."""
        with self.compute.autocast():
            return self.model((x - self.mean) / self.std).to(self.compute.dtype)

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """The class (B,) of each input; -1 where a logit is NaN."""
        return answers(self.logits(x))

    def slope(self, x: Tensor, value: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The gradient (B, *shape) of what `value` makes of the logits, (B,), and the logits.

        Raises CompressitError for a net that has no gradient.
        """
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            logits = self.logits(at)
            total = value(logits).sum()
            found = torch.autograd.grad(total, at, allow_unused=True)[0] if total.requires_grad else None
        if found is None:
            raise CompressitError(
                "the net's outputs have no gradient with respect to its inputs", "measure the net in floats"
            )
        return found, logits.detach()


def measured_in_batches(
    victim: Victim, ctx: StageContext, split: str, images: int,
    measure: Callable[[int, Tensor, Tensor], Measured],
) -> Measured:  # fmt: skip
    """What `measure(number of the batch, inputs before scaling, targets)` finds for `images` examples of a split, or
    all if there are fewer, evenly spaced, since files often come class by class. Saves what is done.

    An entry that only some batches give has their examples only.
    """
    part, data = ctx.data.split(split), ctx.data.contract.inputs
    size = max(1, min(_AT_ONCE, _VALUES // max(single_tensor(data, "an attack").values, 1)))
    count = min(images, len(part))
    places = (torch.arange(count, device=part.y.device) * len(part) // count).split(size)
    found, facts = ctx.progress.load() or ({}, {"batches": 0})
    done = int(facts["batches"])
    for number, (x, y) in enumerate(part.visit(places[done:]), done):
        assert isinstance(x, Tensor)
        new = measure(number, victim.seen(x), y)
        found = {
            **found,
            **{name: torch.cat([*([found[name]] if name in found else []), new[name]]) for name in new},
        }
        if ctx.progress.due() and number + 1 < len(places):
            ctx.progress.save(found, {"batches": number + 1})
    return found
