"""The loss and the score of one net after another, on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from torch import Tensor, nn

from compressit import InputTensors, Split, StageContext, each_tensor
from compressit_plugins.landscape.span import Span
from compressit_plugins.prune.batch_norm import recalibrate

_AT_ONCE = 512  # examples read at once; batch norms are measured on as many

Parts = list[tuple[InputTensors, Tensor]]


@dataclass(frozen=True)
class Ground:
    """Where nets are measured: the same training examples, and test examples, for each."""

    ctx: StageContext
    train: Parts
    test: Parts  # empty: not measured on any

    @staticmethod
    def of(ctx: StageContext, images: int, test: bool = True) -> Ground:
        """`images` examples of each split, at most all, drawn by the streams "examples" and "test examples"; `test`:
        also of the test split, if the data have one."""
        data = ctx.data
        seen = _drawn(data.test, ctx, "test examples", images) if test and data.test is not None else []
        return Ground(ctx, _drawn(data.train, ctx, "examples", images), seen)

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured: "loss" and the task's watched score, and both for the test split."""
        own = ("loss", self.ctx.task.watch)
        return (*own, *(f"test_{name}" for name in own)) if self.test else own

    def measured(self, net: nn.Module) -> list[float]:
        """The numbers by `names`, of a net whose batch norms get new running statistics, from the training examples:
        those of other weights do not hold for it. The loss is the mean over the examples, without label smoothing."""
        typed = self.ctx.compute.typed
        recalibrate(net, (each_tensor(x, typed) for x, _ in self.train))
        return [number for parts in (self.train, self.test) if parts for number in self._on(net, parts)]

    def _on(self, net: nn.Module, parts: Parts) -> tuple[float, float]:
        compute, task = self.ctx.compute, self.ctx.task.measuring()
        outputs = torch.cat([compute.forward(net, x) for x, _ in parts])
        targets = torch.cat([compute.typed(y) for _, y in parts])
        loss = float(task.loss(outputs, targets).double().mean())
        return loss, task.scores(outputs, targets).get(task.watch, nan)


def walk(
    ground: Ground, span: Span, places: Sequence[Sequence[float]], resumes: bool = True
) -> dict[str, np.ndarray]:
    """What `Ground.measured` says of the net at each of the places (coefficients of the span), by name: float64
    (places,).

    `resumes`: saves what it has in the job's progress, and goes on from there.
    """
    progress, found = ground.ctx.progress, list[list[float]]()
    saved = progress.load() if resumes else None
    if saved is not None and "walked" in saved[0]:
        found = saved[0]["walked"].tolist()
    for place in places[len(found) :]:
        found.append(ground.measured(span.at(place)))
        if resumes and progress.due():
            progress.save({"walked": torch.tensor(found, dtype=torch.float64)}, {})
    return dict(zip(ground.names, np.array(found).T, strict=True))


def _drawn(split: Split, ctx: StageContext, purpose: str, images: int) -> Parts:
    drawn = torch.randperm(len(split), generator=ctx.streams.generator(purpose))[:images]
    return list(split.visit(part.to(split.y.device) for part in drawn.split(_AT_ONCE)))
