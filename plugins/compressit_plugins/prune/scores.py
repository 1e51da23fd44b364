"""Scores of single weights: the lowest go first. All have the shape of their weight, float32."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from compressit import CompressitError, InputTensors, call, copied, each_tensor, tensors_of
from compressit_plugins.prune.masks import Pruning

SYNFLOW_STEPS = 100
"""Tanaka et al. 2020, section 5: after 100 steps no layer is pruned as a whole."""

Weights = Mapping[str, nn.Parameter]


def chance(weights: Weights, generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform in (0, 1], drawn on the CPU."""
    return {
        name: (1 - torch.rand(weight.shape, generator=generator)).to(weight.device)
        for name, weight in weights.items()
    }


@torch.no_grad()
def lamp(weights: Weights) -> dict[str, Tensor]:
    """w² / the sum of the squares of all weights of the layer that are not smaller (Lee et al., "Layer-adaptive
    sparsity for the magnitude-based pruning", 2021). The largest weight of each layer has score 1. Of equal weights the
    first is the smaller."""
    return {name: _lamp(weight.detach()) for name, weight in weights.items()}


def _lamp(weight: Tensor) -> Tensor:
    scores = torch.zeros(weight.numel(), device=weight.device)
    flat = weight.float().reshape(-1)
    alive = flat.nonzero()[:, 0]  # of a sparse layer, few are sorted
    # Sizes before places in one number. NumPy sorts these five times as fast as torch, which matters during training.
    sizes = flat[alive].abs().cpu().numpy()
    keys = np.sort((sizes.view(np.int32).astype(np.int64) << 32) | np.arange(len(sizes)))
    squares = sizes[places := keys & 0xFFFFFFFF].astype(np.float64) ** 2
    found = squares / np.cumsum(squares[::-1])[::-1]
    scores[alive[torch.from_numpy(places).to(alive.device)]] = torch.from_numpy(found).to(scores)
    return scores.view(weight.shape)


def synflow(model: nn.Module, weights: Weights, inputs: InputTensors) -> dict[str, Tensor]:
    """|w| · dR/d|w|, where R is the sum of the outputs for an input of ones of the net with the absolute values of all
    its parameters and buffers (Tanaka et al., "Pruning neural networks without any data", 2020), in eval mode and in
    float64. All scores are divided by the largest, to fit into float32.

    `inputs`: any, (1, ...). Raises CompressitError for inputs of whole numbers, and for outputs that are no tensor.
    """
    net = copied(model).double().eval()
    chosen = {name: net.get_parameter(name).requires_grad_(True) for name in weights}
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.abs_()
    outputs = call(net, ones_like(inputs))
    if not isinstance(outputs, Tensor):
        raise CompressitError(
            f"`score: synflow` needs a net that gives one tensor, not a {type(outputs).__name__}",
            "choose another score",
        )
    wanted = list(chosen.values())
    slopes = torch.autograd.grad(outputs.sum(), wanted, allow_unused=True, materialize_grads=True)
    scores = {
        name: (weight * slope).abs().detach()
        for (name, weight), slope in zip(chosen.items(), slopes, strict=True)
    }
    largest = max(float(score.max()) for score in scores.values())
    return {name: (score / (largest or 1)).float() for name, score in scores.items()}


def ones_like(inputs: InputTensors) -> InputTensors:
    """Ones in float64 of their shapes. Raises CompressitError if some are not floats."""
    if not all(tensor.is_floating_point() for tensor in tensors_of(inputs)):
        raise CompressitError(
            "`score: synflow` feeds the net with ones, and these data have inputs of whole numbers",
            "choose another score",
        )
    return each_tensor(inputs, partial(torch.ones_like, dtype=torch.float64))


def by_synflow(model: nn.Module, pruning: Pruning, inputs: InputTensors) -> dict[str, Tensor]:
    """Prunes at once, as the paper does: each step takes the same fraction of what is left. Returns the masks."""
    masks: dict[str, Tensor] = {}
    for step in range(1, SYNFLOW_STEPS + 1):
        scores = synflow(model, pruning.weights, inputs)
        masks = pruning.zero(scores, step / SYNFLOW_STEPS, compounding=True)
    return masks
