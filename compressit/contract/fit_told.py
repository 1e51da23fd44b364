"""What a training tells while it runs: live progress, and the points of its curves."""

from __future__ import annotations

import time

from compressit.contract.context import StageContext
from compressit.contract.fit_options import FitConfig

POINTS = 200
"""Of a curve, at most."""

_EVERY = 0.1  # seconds between two live messages: nobody reads faster


def chosen(count: int) -> list[int]:
    """Which of 1..count to show on a curve, ascending and with the last: all; of more than POINTS a hundredth apart
    each, and before the first of these at even ratios, since a long training does most at its start."""
    if count <= POINTS:
        return list(range(1, count + 1))
    half = POINTS // 2
    even = {round(count * (i + 1) / half) for i in range(half)}
    return sorted(even | {round((count / half) ** (i / half)) for i in range(half)})


class Told:
    """Logs "loss" and "accuracy" at the chosen epochs, and emits what happened a few times a second."""

    def __init__(self, ctx: StageContext, options: FitConfig, first: int) -> None:
        self._ctx = ctx
        self._options = options
        self._first = self._epoch = self._since = first  # epochs so far, and when something was last emitted
        self._last = self._begun = time.perf_counter()  # then, and when this epoch began
        self._epochs = 0
        self._points: frozenset[int] = frozenset()
        self.logs = self._emits = True  # whether the epoch is one of the curves' points
        self._facts: tuple[int, float, float | None] = 0, 0.0, None

    def wants(self, epoch: int, images: int) -> bool:
        """Whether this epoch will be told, so that its accuracy is wanted."""
        epochs = self._options.total_epochs(images)
        if epochs != self._epochs:
            self._epochs, self._points = epochs, frozenset(chosen(epochs))
        self._epoch = epoch + 1
        now = time.perf_counter()
        soon = (
            now - self._last + (now - self._begun)
        )  # at the end of this epoch, if it takes as long as the one before
        self._begun, self.logs = now, self._epoch in self._points
        self._emits = epoch == self._first or soon >= _EVERY
        return self.logs or self._emits

    def epoch(self, steps: int, loss: float, accuracy: float | None) -> None:
        """The epoch ended so."""
        self._facts = steps, loss, accuracy
        if self.logs:
            self._log()
        if self._emits:
            self._emit()

    def end(self) -> None:
        """The training ended with the last epoch, maybe early."""
        if not self.logs:
            self._log()
        if self._since < self._epoch:
            self._emit()

    def _log(self) -> None:
        steps, loss, accuracy = self._facts
        self._ctx.log(steps, loss=loss, **({} if accuracy is None else {"accuracy": accuracy}))

    def _emit(self) -> None:
        _, loss, accuracy = self._facts
        now = time.perf_counter()
        seconds = (now - self._last) / (self._epoch - self._since)
        told = {"loss": loss, "accuracy": accuracy, "seconds": seconds}
        self._ctx.emit({"epoch": self._epoch, "epochs": self._epochs, **told})
        self._last, self._since = now, self._epoch
