"""Distillation on noise, as a plain function of student and teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit import CompressitError, EpochEnd, StageContext, answers, fit
from compressit_plugins.shrink.noise_inputs import noise_generator, shared_noise_source
from compressit_plugins.shrink.noise_options import NoiseConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def fit_to_noise(
    student: nn.Module, teacher: nn.Module, ctx: StageContext, options: NoiseConfig
) -> nn.Module:
    """Trains `student` in place to match `teacher` on noise. Returns it in eval mode.

    Uniform noise with hard labels, redrawn each round, is the setting of Alok Singh, "Compressing neural networks to
    see if they learn" (2018). Matching logits is from Ba & Caruana, "Do deep nets really need to be deep?" (2014).
    Notes the noise it used. If `track` is set, logs retention_train and, where there is a test split, retention_test
    against images seen: accuracy, or what the task watches.
    """
    source = shared_noise_source(options.noise, ctx)
    labelled: dict[str, Tensor] = {}

    def data(epoch: int) -> tuple[Tensor, Tensor]:
        if options.redraw == "epoch" or not labelled:
            generator = noise_generator(ctx.streams, options.redraw, epoch, ctx.compute.device)
            labelled["x"] = source.draw(options.images, generator)
            labelled["target"] = targets(ctx.compute.forward(teacher, labelled["x"]), options)
        return labelled["x"], labelled["target"]

    told = {name: getattr(options, name) for name in ("labels", "redraw", "images")}
    statistics = "none" if options.noise == "uniform" else "of the training inputs"
    ctx.note(noise={"kind": options.noise, **told, "statistics": statistics})

    last = options.total_epochs(options.images)

    def track(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        number = end.epoch + 1
        if number & (number - 1) and number != last:  # powers of two, and the last
            return
        for name, split in (("train", ctx.data.train), ("test", ctx.data.test)):
            if split is None:
                continue
            scores = ctx.task.scores(ctx.compute.forward(student, split), split.y)
            if ctx.task.watch in scores:
                ctx.log(end.images_seen, **{f"retention_{name}": scores[ctx.task.watch]})

    return fit(student, ctx, options, data, loss_of(options), track if options.track else None)


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
