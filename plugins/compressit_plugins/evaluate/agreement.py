"""Functions that measure the agreement of two models."""

from __future__ import annotations

import torch
from torch import nn

from compressit import Judged, StageContext, answers
from compressit_plugins.shrink.noise_fit import entropy_bits
from compressit_plugins.shrink.noise_inputs import Noise, noise_generator, shared_noise_source
from compressit_plugins.shrink.noise_norms import labelling


def real_fidelity(model: nn.Module, ctx: StageContext, teacher: str) -> dict[str, float]:
    """Agreement with the teacher on the test inputs, if the data have some, and on the training inputs."""
    reference = ctx.model(teacher)

    def on(split: str) -> float:
        return ctx.task.agreement(ctx.logits(model, split), ctx.logits(reference, split, teacher))

    tested = {"agreement": on("test")} if ctx.data.test is not None else {}
    return {**tested, "train_agreement": on("train")}


def noise_fidelity(model: nn.Module, ctx: StageContext, judged: Judged, draws: int) -> dict[str, float]:
    """Agreement on the noise of the stage's last epoch and on `draws` unseen images of the same kind of noise, with the
    teacher as it labelled them.

    Where the teacher answers with classes, also their entropy (bits) and majority share on the unseen images, unless
    its logits are all NaN.
    """
    noise = judged.notes["noise"]
    device = ctx.compute.device
    source = shared_noise_source(Noise.noted(noise), ctx)
    teacher = labelling(ctx.model(str(judged.reference)), noise.get("teacher_norms", "running"))
    last = max(int(judged.notes["epochs"]) - 1, 0)
    seen = source.draw(noise["images"], noise_generator(judged.streams, noise["redraw"], last, device))
    unseen = source.draw(draws, judged.streams.generator("unseen noise", device=device))
    told = ctx.compute.forward(teacher, unseen)
    found = {
        "fit_agreement": ctx.task.agreement(
            ctx.compute.forward(model, seen), ctx.compute.forward(teacher, seen)
        ),
        "noise_agreement": ctx.task.agreement(ctx.compute.forward(model, unseen), told),
    }
    if ctx.task.target == "vector":
        return found
    labels = answers(told)
    known = labels[labels >= 0]
    if len(known):
        found["noise_entropy_bits"] = entropy_bits(known, ctx.data.classes)
        found["noise_majority"] = float(torch.bincount(known).max()) / len(known)
    return found
