"""The picture of test images that are answered otherwise than by the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compressit import Data, TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 24
"""Images in the picture."""

_COLUMNS = 6
_LONGEST = 16  # characters of a class's name
_LINE = 20  # characters above an image
_COLOURS = {"lost": "#b00020", "won": "#1b6e33", "wrong": "#555555"}


def picture_of(data: Data, before: Tensor, now: Tensor) -> Figure | None:
    """Test images whose answer changed from `before` (N,) to `now` (N,), -1 for a NaN.

    None if none did, and for inputs that are no images: (1 or 3, height, width) floats of a known range.
    """
    split, spec = data.split("test"), data.contract.inputs
    chosen = first_flips(before, now, split.y)
    if not len(chosen) or not isinstance(spec, TensorSpec) or not _is_image(spec):
        return None
    inputs = next(iter(split.visit([chosen])))[0]
    assert isinstance(inputs, Tensor)
    triples = torch.stack([before[chosen], now[chosen], split.y[chosen]], 1).tolist()
    return _drawn(pixels(inputs, data), triples, data.contract.class_names)


def first_flips(before: Tensor, now: Tensor, y: Tensor) -> Tensor:
    """The positions of at most MOST flips: first those that were right, then those that are right now, then others."""
    kinds = (before == y, now == y, (before != y) & (now != y))
    found = [(kind & (before != now)).nonzero().flatten() for kind in kinds]
    return torch.cat(found)[:MOST]


def pixels(x: Tensor, data: Data) -> Tensor:
    """Inputs of a model (N, C, H, W) as an image's values in 0..1, (N, H, W, C) on the CPU."""
    contract = data.contract
    spec = contract.inputs
    assert isinstance(spec, TensorSpec)
    assert spec.low is not None
    assert spec.high is not None
    x = x.cpu().movedim(1, -1).float()
    if contract.mean is not None and contract.std is not None:
        x = x * torch.tensor(contract.std) + torch.tensor(contract.mean)
    return ((x - spec.low) / (spec.high - spec.low)).clamp(0, 1)


def _is_image(spec: TensorSpec) -> bool:
    ranged = spec.low is not None and spec.high is not None and spec.low < spec.high
    return spec.dtype == "float32" and len(spec.shape) == 3 and spec.shape[0] in (1, 3) and ranged


def _drawn(images: Tensor, triples: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """A grid of images, `before → now` above each and its label below. `triples`: the three classes of each."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for place in axes[len(triples) :]:
        place.set_axis_off()
    for place, image, (was, is_now, label) in zip(axes, images, triples, strict=False):
        place.set(xticks=[], yticks=[])
        place.spines[:].set_color("#bbbbbb")
        place.imshow(image.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        first, second, wanted = (_name(at, names) for at in (was, is_now, label))
        break_ = " " if len(first) + len(second) + 3 <= _LINE else "\n"
        kind = "lost" if was == label else "won" if is_now == label else "wrong"
        place.set_title(f"{first} →{break_}{second}", fontsize=9, color=_COLOURS[kind], parse_math=False)
        place.text(
            0.5, -0.04, f"label {wanted}", fontsize=8, ha="center", va="top", transform=place.transAxes,
            parse_math=False,
        )  # fmt: skip
    return figure


def _name(at: int, names: Sequence[str]) -> str:
    """What a class is called, at most _LONGEST characters; -1 is an answer that is no number."""
    name = "NaN" if at < 0 else names[at] if at < len(names) else str(at)
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
