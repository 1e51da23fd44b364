"""What a student is given: training examples with its teachers' answers, and the loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compressit import Batched, CompressitError, Compute, InputTensors, Split, StageContext
from compressit_plugins.distill.hints import Watched, hinted, with_hints
from compressit_plugins.distill.loss import loss_of
from compressit_plugins.distill.options import TeacherConfig

Tensors = tuple[InputTensors, *tuple[Tensor, ...]]


@dataclass(frozen=True)
class Lesson:
    """What `fit` needs to train a student in place."""

    student: nn.Module  # the student, or with hints a module around it
    examples: Batched  # (inputs, targets, the teachers' outputs, and with hints its features)
    loss: Callable[..., Tensor]


def lesson(student: nn.Module, ctx: StageContext, options: TeacherConfig) -> Lesson:
    """The lesson of `ctx.data.train`, as the options say.

    Inputs that are the same in every epoch are answered once. The others are answered as they come: teacher and
    student see the same augmented image (Beyer et al. 2022, "A good teacher is patient and consistent"). With hints the
    teacher answers every batch, since its features of all examples may be too large to keep.
    Raises CompressitError for hints that do not fit the two nets.
    """
    train, compute = ctx.data.train, ctx.compute
    teachers = [ctx.model(name) for name in options.teachers]
    loss = loss_of(options, ctx.task, train.y)
    if options.hints is not None:
        around, watched = hinted(compute.placed(student), teachers[0], options.hints, train.some(2), ctx)
        return Lesson(
            around, Explained(train, watched, compute), with_hints(loss, around, options.hints.weight)
        )
    if train.repeats:
        return Lesson(student, Remembered(train, answers(teachers, train, compute)), loss)
    return Lesson(student, Answered(train, teachers, compute), loss)


def answers(teachers: Sequence[nn.Module], x: InputTensors | Split, compute: Compute) -> Tensor:
    """The mean of the teachers' outputs (N, ...).

    Of classifiers that is the mean of logits: the geometric mean of their probabilities, one of the two that Hinton,
    Vinyals & Dean (2015, section 1) propose. The mean of outputs, unlike that of probabilities, is something to learn
    for every loss and every task. Raises CompressitError if their outputs differ in shape.
    """
    outputs = [compute.forward(teacher, x) for teacher in teachers]
    shapes = list(dict.fromkeys(tuple(output.shape) for output in outputs))
    if len(shapes) > 1:
        raise CompressitError(
            f"the teachers' outputs have the shapes {' and '.join(map(str, shapes))}",
            "teachers must answer with the same classes",
        )
    return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)


@dataclass(frozen=True)
class Remembered:
    """A split whose batches have the answers (N, ...) to its examples beside the targets."""

    examples: Split
    answers: Tensor

    def __len__(self) -> int:
        return len(self.examples)

    def batches(self, size: int | Literal["all"], epoch: int) -> Iterator[Tensors]:
        """As the split's."""
        return self.examples.batches_with(self.answers, size, epoch)


@dataclass(frozen=True)
class Answered:
    """A split whose batches are answered as they come."""

    examples: Split
    teachers: Sequence[nn.Module]
    compute: Compute

    def __len__(self) -> int:
        return len(self.examples)

    def batches(self, size: int | Literal["all"], epoch: int) -> Iterator[Tensors]:
        """As the split's."""
        for x, y in self.examples.batches(size, epoch):
            yield x, y, answers(self.teachers, x, self.compute)


@dataclass(frozen=True)
class Explained:
    """A split whose batches have a teacher's outputs and features, as they come."""

    examples: Split
    teacher: Watched
    compute: Compute

    def __len__(self) -> int:
        return len(self.examples)

    def batches(self, size: int | Literal["all"], epoch: int) -> Iterator[Tensors]:
        """As the split's."""
        for x, y in self.examples.batches(size, epoch):
            outputs = self.compute.forward(
                self.teacher, x, batch_size=len(y)
            )  # at once: the last features are all
            yield x, y, outputs, *self.teacher.features()
