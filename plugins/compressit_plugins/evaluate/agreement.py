"""Agreement of two models, as plain functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit.context import Judged, StageContext
from compressit_plugins.shrink.noise_fit import entropy_bits
from compressit_plugins.shrink.noise_inputs import noise_generator, shared_noise_source


def agreement(a: Tensor, b: Tensor) -> float:
    """The fraction of inputs on which two models' logits (N, K) have the same largest class."""
    return float((a.argmax(1) == b.argmax(1)).double().mean())


def real_fidelity(model: nn.Module, ctx: StageContext, teacher: str) -> dict[str, float]:
    """Agreement with the teacher on the test and on the training inputs."""
    reference = ctx.model(teacher)
    splits = {"agreement": "test", "train_agreement": "train"}
    return {
        name: agreement(ctx.logits(model, split), ctx.logits(reference, split, teacher))
        for name, split in splits.items()
    }


def noise_fidelity(model: nn.Module, ctx: StageContext, judged: Judged, draws: int) -> dict[str, float]:
    """Agreement on the noise the stage was last given and on `draws` unseen draws of the same kind, with the entropy
    (bits) and majority share of the teacher's classes on the unseen ones."""
    noise = judged.notes["noise"]
    device = ctx.compute.device
    source = shared_noise_source(noise["kind"], ctx)
    teacher = ctx.model(str(judged.reference))
    last = max(int(judged.notes["epochs"]) - 1, 0)
    seen = source.draw(noise["images"], noise_generator(judged.streams, noise["redraw"], last, device))
    unseen = source.draw(draws, judged.streams.generator("unseen noise", device=device))
    fitted = agreement(ctx.compute.forward(model, seen), ctx.compute.forward(teacher, seen))
    labels = ctx.compute.forward(teacher, unseen).argmax(1)
    answers = ctx.compute.forward(model, unseen).argmax(1)
    return {
        "fit_agreement": fitted,
        "noise_agreement": float((labels == answers).double().mean()),
        "noise_entropy_bits": entropy_bits(labels, ctx.data.classes),
        "noise_majority": float(torch.bincount(labels).max()) / len(labels),
    }
