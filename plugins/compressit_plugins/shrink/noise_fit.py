"""Distillation on noise, as a plain function of student and teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit import CompressitError, EpochEnd, StageContext, answers, copied, fit
from compressit_plugins.shrink.noise_head import take_over_head
from compressit_plugins.shrink.noise_inputs import OF_THE_DATA, Noise, noise_generator, shared_noise_source
from compressit_plugins.shrink.noise_norms import labelling, measure_student_norms
from compressit_plugins.shrink.noise_options import NoiseConfig

Loss = Callable[[Tensor, Tensor], Tensor]
Track = Callable[[EpochEnd, dict[str, Tensor]], None]


def fit_to_noise(
    student: nn.Module, teacher: nn.Module, ctx: StageContext, options: NoiseConfig
) -> nn.Module:
    """Trains `student` in place to match `teacher` on noise. Returns it in eval mode.

    Uniform noise with hard labels, redrawn each round, is the setting of Alok Singh, "Compressing neural networks to
    see if they learn" (2018). Matching logits is from Ba & Caruana, "Do deep nets really need to be deep?" (2014).
    Notes the noise it used. If `track` is set, logs retention_train and, where there is a test split, retention_test
    against images seen: accuracy, or what the task watches.
    """
    if options.head == "teacher":
        take_over_head(student, teacher, ctx)
    ctx.note(noise=told(options))
    lesson = Lesson(labelling(teacher, options.teacher_norms), ctx, options)
    track = _tracking(student, lesson, ctx, options) if options.track else None
    fit(student, ctx, options, lesson, loss_of(options), track)
    if options.student_norms != "running":
        noise, _ = lesson(ctx.notes["epochs"] - 1)
        ctx.note(recalibrated=measure_student_norms(student, noise, ctx, options))
    return student


class Lesson:
    """The noise of each epoch and what the teacher makes of it: called with an epoch, (inputs, targets)."""

    def __init__(self, teacher: nn.Module, ctx: StageContext, options: NoiseConfig) -> None:
        self._teacher, self._ctx, self._options = teacher, ctx, options
        self._source = shared_noise_source(drawn(options), ctx)
        self._epoch = -1
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, epoch: int) -> tuple[Tensor, Tensor]:
        if self._last is None or (self._options.redraw == "epoch" and epoch != self._epoch):
            self._last = None  # frees the last epoch's before the next is drawn
            x = self._drawn(epoch)
            self._epoch, self._last = (
                epoch,
                (x, targets(self._ctx.compute.forward(self._teacher, x), self._options)),
            )
        return self._last

    def _drawn(self, epoch: int) -> Tensor:
        ctx, options = self._ctx, self._options
        generator = noise_generator(ctx.streams, options.redraw, epoch, ctx.compute.device)
        return self._source.draw(options.images, generator)


def _tracking(student: nn.Module, lesson: Lesson, ctx: StageContext, options: NoiseConfig) -> Track:
    """Logs what the student does on the original data after each power of two of epochs, and the last."""
    last = options.total_epochs(options.images)

    def track(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        number = end.epoch + 1
        if number & (number - 1) and number != last:
            return
        net = student
        if options.student_norms != "running":  # as it would be if this epoch was the last
            net = copied(student)
            measure_student_norms(net, lesson(end.epoch)[0], ctx, options)
        for name, split in (("train", ctx.data.train), ("test", ctx.data.test)):
            if split is None:
                continue
            scores = ctx.task.scores(ctx.compute.forward(net, split), split.y)
            if ctx.task.watch in scores:
                ctx.log(end.images_seen, **{f"retention_{name}": scores[ctx.task.watch]})

    return track


def drawn(options: NoiseConfig) -> Noise:
    """The noise that these options ask for."""
    if options.noise != "smooth":
        return Noise(options.noise)
    return Noise(options.noise, options.blur, options.contrast)


def told(options: NoiseConfig) -> dict[str, Any]:
    """What a stage notes of its noise: all that an evaluator needs to draw and label it again, and what it assumes."""
    names = ["labels", "redraw", "images", *(["blur", "contrast"] if options.noise == "smooth" else [])]
    names += [] if options.teacher_norms == "running" else ["teacher_norms"]
    statistics = "of the training inputs" if options.noise in OF_THE_DATA else "none"
    facts = options.model_dump(mode="json", include=set(names))
    return {"kind": options.noise, **{name: facts[name] for name in names}, "statistics": statistics}


def targets(logits: Tensor, options: NoiseConfig) -> Tensor:
    """The student's targets: classes (N,) int64, probabilities (N, K), or logits (N, K).

    Raises CompressitError if the targets are classes and a logit of the teacher is NaN.
    """
    if options.labels == "hard":
        classes = answers(logits)
        if lost := int((classes < 0).sum()):
            raise CompressitError(
                f"the teacher's logits for {lost} of {len(classes)} noise images are NaN, so they have no label",
                "the teacher's training diverged: lower its learning rate",
            )
        return classes
    return (logits / options.temperature).softmax(1) if options.labels == "soft" else logits


def loss_of(options: NoiseConfig) -> Loss:
    """The loss for these labels: cross-entropy for hard labels; cross-entropy at temperature T for soft labels, times
    T squared to keep the size of its gradients (Hinton et al. 2015); mean squared error for logits."""
    if options.labels == "hard":
        return F.cross_entropy
    if options.labels == "logits":
        return F.mse_loss
    t = options.temperature
    return lambda outputs, probabilities: F.cross_entropy(outputs / t, probabilities) * t * t


def entropy_bits(classes: Tensor, count: int) -> float:
    """Entropy in bits of the empirical distribution of labels (N,) int64 over `count` classes."""
    share = torch.bincount(classes, minlength=count).double() / len(classes)
    return float(-(share * share.clamp_min(1e-300).log2()).sum()) + 0.0
