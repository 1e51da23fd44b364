"""Functions that compare a model's answers with its original's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit import StageContext, answers
from compressit_plugins.evaluate.flips import picture_of


def forgotten(model: nn.Module, ctx: StageContext, of: str) -> dict[str, float]:
    """All that `eval.forgotten` declares. Saves arrays and the picture in `ctx`."""
    outputs = ctx.logits(model, "test")
    classes = ctx.task.target == "class"
    if classes:
        y = ctx.data.split("test").y
        right = answers(outputs) == y
        ctx.save("correct", right)
        ctx.save("class_accuracy", class_accuracy(right, y, ctx.data.classes))
    if ctx.identity(of) == ctx.identity("model"):
        return {}
    original = ctx.model(of)
    theirs = ctx.logits(original, "test", of)
    found = {"original_agreement": ctx.task.agreement(outputs, theirs)}
    if classes:
        found |= _changes(outputs, theirs, ctx) | _kept(model, original, ctx, of)
    return found


def class_accuracy(right: Tensor, y: Tensor, classes: int) -> Tensor:
    """The share of right answers (N,) among the examples of each label of y (N,): (classes,) float64; NaN for a class
    without examples."""
    return y[right].bincount(minlength=classes).double() / y.bincount(minlength=classes)


def _changes(outputs: Tensor, theirs: Tensor, ctx: StageContext) -> dict[str, float]:
    """Flips of test examples and changes of classes. A NaN is a wrong answer."""
    split, classes = ctx.data.split("test"), ctx.data.classes
    now, before = answers(outputs), answers(theirs)
    right, was_right = now == split.y, before == split.y
    change = class_accuracy(right, split.y, classes) - class_accuracy(was_right, split.y, classes)
    worst = int(change.nan_to_num(nan=torch.inf).argmin())
    ctx.save("class_change", change)
    ctx.save("flipped", (now != before).nonzero().flatten())
    if (picture := picture_of(ctx.data, before, now)) is not None:
        ctx.picture("flipped_images", picture)
    return {
        "negative_flips": float((was_right & ~right).double().mean()),
        "positive_flips": float((right & ~was_right).double().mean()),
        "worst_class_change": float(change[worst]),
        "worst_class": worst,
    }


def _kept(model: nn.Module, original: nn.Module, ctx: StageContext, of: str) -> dict[str, float]:
    """Of the training examples that the original answers as it was trained, the share that this model does too: where
    the label was replaced by a wrong one, and where it is the example's own."""
    data = ctx.data
    if data.relabelled is None:
        return {}
    y, known = data.train.y, data.relabelled
    kept = answers(ctx.logits(model, "train")) == y
    learned = answers(ctx.logits(original, "train", of)) == y
    groups = {
        "memorised_kept": learned & known.replaced & (y != known.given),
        "generalised_kept": learned & ~known.replaced,
    }
    return {name: float(kept[group].double().mean()) for name, group in groups.items() if group.any()}
