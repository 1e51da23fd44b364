"""Pruning during a training: how much is gone after each step, and what keeps it so."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compressit import FitConfig, StageContext, fit, pruned_zeros
from compressit_plugins.distill.taught import Lesson
from compressit_plugins.prune.masks import Pruning, Scored
from compressit_plugins.prune.options import GradualConfig

ALIVE, MOVEMENT = "alive/", "movement/"

_POINTS = 200  # of the curve of sparsity


def _cubic(progress: float) -> float:
    """Zhu & Gupta, "To prune, or not to prune" (2017), equation 1."""
    return 1 - (1 - progress) ** 3


def _one_cycle(progress: float) -> float:
    """Hubens et al., "One-cycle pruning" (2021), with its alpha of 14 and beta of 5; .007 at the start."""
    return (1 + math.exp(-14 + 5)) / (1 + math.exp(-14 * progress + 5))


CURVES: Mapping[str, Callable[[float], float]] = {
    "cubic": _cubic,
    "linear": float,
    "one_cycle": _one_cycle,
}
"""From the part of the way (0 to 1) to the part of the zeros that is made by then."""


@dataclass(frozen=True)
class Schedule:
    """After which optimizer steps (from 1) of a training to prune."""

    first: int  # nothing is pruned yet
    last: int  # all is pruned
    every: int
    curve: Callable[[float], float]

    @staticmethod
    def of(options: GradualConfig, steps: int) -> Schedule:
        """For a training of so many steps."""
        first = min(math.floor(options.start * steps), steps - 1)
        last = max(first + 1, math.floor(options.end * steps))
        return Schedule(first, last, options.every, CURVES[options.curve])

    def due(self, step: int) -> bool:
        """Whether to prune after this step."""
        between = self.first < step < self.last and not (step - self.first) % self.every
        return between or step == self.last

    def done(self, step: int) -> float:
        """The part of the zeros that is made then; 1 at the end, whatever rounding does."""
        return 1.0 if step >= self.last else self.curve((step - self.first) / (self.last - self.first))

    def shown(self, step: int) -> bool:
        """Whether the curve of sparsity has a point here."""
        number, count = (step - self.first) // self.every, (self.last - self.first) // self.every
        return step == self.last or not number % (count // _POINTS + 1)


@dataclass(frozen=True)
class Gradual:
    """A training during which a model is pruned.

    What a resumed one needs besides the model is in `kept`, which `fit` saves: of each weight, by its name behind
    `ALIVE`, 1 where it is left and 0 where not; and with `movement`, behind `MOVEMENT`, its score so far.
    """

    pruning: Pruning
    schedule: Schedule
    scored: Scored | None  # None: magnitudes, or with `movement` what the training sums up
    movement: bool
    ctx: StageContext
    kept: dict[str, Tensor]

    @staticmethod
    def of(
        model: nn.Module,
        pruning: Pruning,
        schedule: Schedule,
        scored: Scored | None,
        movement: bool,
        ctx: StageContext,
    ) -> Gradual:
        """One that has not begun. What an earlier stage pruned is gone; what a builder starts at zero learns."""
        gone = {} if ctx.fresh else pruned_zeros(model)
        kept: dict[str, Tensor] = {}
        for name, weight in pruning.weights.items():
            kept[ALIVE + name] = (~gone[name]).to(weight.dtype) if name in gone else torch.ones_like(weight)
            if movement:
                kept[MOVEMENT + name] = torch.zeros_like(weight)
        return Gradual(pruning, schedule, scored, movement, ctx, kept)

    def train(self, given: Lesson, options: FitConfig) -> None:
        """Trains the student in place. The number of zeros at the end is exact, also where the training diverges."""
        with self._hooked(options.clip is not None):
            fit(
                given.student,
                self.ctx,
                options,
                given.examples,
                given.loss,
                kept=self.kept,
                on_step=self._on_step,
            )
        if self.pruning.is_short():
            self._prune(self.schedule.last)

    def _on_step(self, step: int, loss: Tensor) -> None:
        if step > self.schedule.first:
            # momentum moves a weight even where its gradient is zero: what is pruned is set to zero again
            with torch.no_grad():
                for name, weight in self.pruning.weights.items():
                    weight.mul_(self._saved(ALIVE, name))
        if self.schedule.due(step):
            self._prune(step)
            if self.schedule.shown(step):
                self.ctx.log(step, sparsity=sum(self.pruning.zeros().values()) / self.pruning.selected)

    def _prune(self, step: int) -> None:
        scores = self.scored(step) if self.scored else None
        if self.movement:
            scores = {name: self._saved(MOVEMENT, name) for name in self.pruning.weights}
        for name, mask in self.pruning.zero(scores, self.schedule.done(step)).items():
            self.kept[ALIVE + name] = (~mask).to(self.pruning.weights[name].dtype)

    def _saved(self, what: str, name: str) -> Tensor:
        """On the weight's device: what was saved comes back on the CPU."""
        found = self.kept[what + name] = self.kept[what + name].to(self.pruning.weights[name].device)
        return found

    @contextmanager
    def _hooked(self, clips: bool) -> Generator[None]:
        """While it is open, gradients add to the scores of `movement`, and, if they are clipped, only those of weights
        that are left count for their norm."""

        def seen(name: str, weight: Tensor) -> None:
            if weight.grad is None:
                return
            if self.movement:  # Sanh et al., "Movement pruning" (2020), equation 4
                self._saved(MOVEMENT, name).addcmul_(weight.detach(), weight.grad, value=-1)
            if clips:
                weight.grad.mul_(self._saved(ALIVE, name))

        hooks = [
            weight.register_post_accumulate_grad_hook(partial(seen, name))
            for name, weight in self.pruning.weights.items()
            if weight.requires_grad and (self.movement or clips)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
