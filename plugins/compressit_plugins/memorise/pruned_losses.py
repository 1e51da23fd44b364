"""The training loss of a model that loses more and more weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from compressit import StageContext, copied, pruned_zeros
from compressit_plugins.memorise.examples import drawn_examples
from compressit_plugins.prune.lowest import lowest
from compressit_plugins.prune.weights import select_weights

LossAt = Callable[[int], float]  # of so many weights


def prunability(
    model: nn.Module, ctx: StageContext, eps: float, images: int, points: int, least: float
) -> dict[str, float]:
    """All that `eval.prunability` declares. Does not change `model`."""
    examples = drawn_examples(ctx, images)
    net = copied(model).requires_grad_(False)
    weights = {name: parameter.detach() for name, parameter in select_weights(net).items()}
    gone = {name: mask for name, mask in pruned_zeros(net).items() if name in weights}
    whole = {name: value.clone() for name, value in weights.items()}
    there = sum(value.numel() for value in whole.values()) - sum(int(mask.sum()) for mask in gone.values())

    def loss() -> float:
        outputs = ctx.compute.forward(net, examples.x)
        return float(ctx.task.loss(outputs.double(), examples.y).double().mean())

    def keeping(scores: Mapping[str, Tensor]) -> LossAt:
        total = sum(value.numel() for value in whole.values())

        def at(count: int) -> float:
            masks = lowest(scores, total - count)
            for name, value in weights.items():
                value.copy_(whole[name].masked_fill(masks[name], 0))
            return loss()

        return at

    own = loss()
    found = {"prunability_loss": own}
    if not math.isfinite(own):
        return found
    counts = grid(there, points, least)
    sizes = {name: value.abs() for name, value in whole.items()}
    generator = ctx.streams.generator("random weights")
    chance = {
        name: torch.rand(value.shape, generator=generator).add_(1).to(value.device)
        for name, value in whole.items()
    }
    chance = {
        name: value.masked_fill(gone[name], 0) if name in gone else value for name, value in chance.items()
    }
    for prefix, scores in (("", sizes), ("random_", chance)):
        at = keeping(scores)
        losses = {count: at(count) for count in counts}
        for count, value in losses.items():
            ctx.log(count / there, **{f"{prefix}pruned_loss": value})
        kept = smallest(losses, at, (1 + eps) * own)
        found[f"{prefix}prunability"] = kept / there
        if not prefix:
            found["prunability_weights"] = kept
    return found


def grid(total: int, points: int, least: float) -> Sequence[int]:
    """Numbers of weights from `total` down to `least` of it, at even ratios, each once and at least 1."""
    return list(dict.fromkeys(max(1, round(total * least ** (at / (points - 1)))) for at in range(points)))


def smallest(losses: Mapping[int, float], at: LossAt, bound: float) -> int:
    """The smallest number of weights before the loss is first above `bound`, from the most weights down. `losses`: of
    some numbers, descending, the first of which is within the bound; `at` gives that of any other."""
    counts = [*losses, 0]

    def holds(count: int) -> bool:
        value = losses[count] if count in losses else at(count)
        return value <= bound  # NaN does not

    within, beyond = next(((more, less) for more, less in pairwise(counts) if not holds(less)), (0, 0))
    while within - beyond > 1:
        middle = (within + beyond) // 2
        within, beyond = (middle, beyond) if holds(middle) else (within, middle)
    return within
