"""Training examples with a teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from compressit import Compute, InputTensors, Split, StageContext

Triple = tuple[InputTensors, Tensor, Tensor]


def taught(train: Split, teacher: nn.Module, ctx: StageContext) -> Taught | Callable[[int], Triple]:
    """The examples (inputs, labels, the teacher's logits) for `fit`.

    Inputs that are the same in every epoch are answered once. The others are answered as they come: teacher and
    student see the same augmented image (Beyer et al. 2022, "A good teacher is patient and consistent").
    """
    if not train.repeats:
        return Taught(train, teacher, ctx.compute)
    x, y = train.tensors()
    logits = ctx.compute.forward(teacher, x)
    return lambda epoch: (x, y, logits)


@dataclass(frozen=True)
class Taught:
    """A split whose batches have the teacher's logits beside the labels."""

    examples: Split
    teacher: nn.Module
    compute: Compute

    def __len__(self) -> int:
        return len(self.examples)

    def batches(self, size: int | Literal["all"], epoch: int) -> Iterator[Triple]:
        """As the split's."""
        for x, y in self.examples.batches(size, epoch):
            yield x, y, self.compute.forward(self.teacher, x)
