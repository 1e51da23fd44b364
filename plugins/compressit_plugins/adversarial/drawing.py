"""Pictures of inputs that were changed until a net answered otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from compressit import TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = 10  # how much larger a change is drawn


def shown(
    inputs: Tensor, results: Tensor, labels: Tensor, told: Tensor, names: Sequence[str], spec: TensorSpec
) -> Figure | None:
    """A column for each example: the image with its label, ten times the change (grey is none), the result with the
    net's answer. None unless inputs (N, C, H, W) are images of one or three channels in a known range.

    `labels` and `told`: (N,) int64, names by position in `names`.
    """
    from matplotlib.figure import Figure

    low, high = spec.low, spec.high
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3) or low is None or high is None or high <= low:
        return None
    before, after = ((x.float() - low) / (high - low) for x in (inputs, results))
    rows = (before, 0.5 + TIMES * (after - before), after)
    figure = Figure(figsize=(1.3 * len(inputs) + 1.1, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(3, len(inputs), squeeze=False)
    for line, images, title in zip(panels, rows, ("input", f"change × {TIMES}", "result"), strict=True):
        line[0].set_ylabel(title, fontsize=10)
        for panel, image in zip(line, images, strict=True):
            pixels = np.clip(image.permute(1, 2, 0).numpy(), 0, 1)
            panel.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
    for panel, label in zip(panels[0], labels.tolist(), strict=True):
        panel.set_title(names[label], fontsize=10)
    for panel, answer in zip(panels[2], told.tolist(), strict=True):
        panel.set_xlabel(names[answer], fontsize=10)
    return figure
