"""The training of a curve between two nets, for `train.curve`."""

from __future__ import annotations

from math import comb
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressit import CompressitError, StageContext, copied, fit, keeping_zeros
from compressit_plugins.landscape.curve_options import CurveConfig
from compressit_plugins.landscape.span import Span, Weights, alike, mixed, weights_of
from compressit_plugins.landscape.walk import Ground, walk

Kind = Literal["bezier", "polygon"]


def connect(model: nn.Module, ctx: StageContext, options: CurveConfig) -> nn.Module:
    """Trains the curve; gives `model` the weights of one of its places, and returns it in eval mode."""
    other = ctx.model(options.other)
    if not alike(model, other):
        raise CompressitError(
            f"no curve leads to '{options.other}': it has weights of other names or shapes",
            "give another model of this network, of the same widths",
        )
    path = Path(model, other, options.kind, options.bends)
    train = ctx.data.train
    with keeping_zeros(path, ctx) as zeros:
        if zeros:
            ctx.note(zeros_kept=zeros)
        fit(path, ctx, options, train, ctx.task.objective(train.y))
    points = path.points()
    ctx.save("bends", torch.stack([_flat(point) for point in points[1:-1]]))
    span, ground = Span.of(model, *points), Ground.of(ctx, options.images, test=False)
    places = np.linspace(0, 1, options.points)
    found = walk(ground, span, [path.shares(at) for at in places], resumes=False)
    for name, values in found.items():
        for at, value in zip(places, values, strict=True):
            ctx.log(at, **{f"curve_{name}": value})
    losses = found["loss"]
    ctx.note(curve_highest_loss=float(losses.max()), curve_end_loss=float(losses[0] + losses[-1]) / 2)
    chosen = span.at(path.shares(options.at))
    ground.measured(chosen)  # leaves it with the statistics of its own weights
    model.load_state_dict(chosen.state_dict())
    return model.eval()


class Path(nn.Module):
    """A curve of nets between two. A forward pass in train mode is that of the net at a place drawn uniformly, from
    torch's own generator, as dropout draws; in eval mode that of the middle.

    Only the bends are trained. A parameter that is frozen in the first net has bends on the straight line.
    """

    def __init__(self, first: nn.Module, last: nn.Module, kind: Kind, bends: int) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.bends = bends
        self.net = copied(first).requires_grad_(False)
        ends = weights_of(first), weights_of(last)
        self.names = list(ends[0])
        trained = {name for name, p in first.named_parameters() if p.requires_grad}
        for number, share in enumerate(torch.linspace(0, 1, bends + 2).tolist()):
            for at, name in enumerate(self.names):
                value = torch.lerp(ends[0][name], ends[1][name], share)
                if 0 < share < 1:
                    self.register_parameter(_place(number, at), nn.Parameter(value, name in trained))
                else:
                    self.register_buffer(_place(number, at), value, persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        place = torch.rand(()) if self.training else torch.tensor(0.5)
        shares = list(shares_at(place, self.kind, self.bends))
        points = self.points()
        weights = {name: mixed([point[name] for point in points], shares) for name in self.names}
        return functional_call(self.net, weights, args, kwargs)

    def points(self) -> list[Weights]:
        """The weights of both ends and the bends between them, in order."""
        return [
            {name: getattr(self, _place(number, at)) for at, name in enumerate(self.names)}
            for number in range(self.bends + 2)
        ]

    def shares(self, place: float) -> list[float]:
        """Those of `shares_at` for this curve."""
        return shares_at(torch.tensor(place, dtype=torch.float64), self.kind, self.bends).tolist()


def shares_at(place: Tensor, kind: Kind, bends: int) -> Tensor:
    """What each of the ends and bends adds to the net at a place, a scalar from 0 to 1: (bends + 2,), sum 1.

    Of a Bézier curve the Bernstein polynomials; of a polygon, whose parts have equal shares of the places, the two
    corners beside it.
    """
    last = bends + 1
    if kind == "polygon":
        corners = torch.arange(last + 1, dtype=place.dtype)
        return (1 - (place * last - corners).abs()).clamp_min(0)
    return torch.stack([comb(last, k) * place**k * (1 - place) ** (last - k) for k in range(last + 1)])


def _place(number: int, at: int) -> str:
    """What `Path` calls the weights of one parameter at an end or bend."""
    return f"point{number}_{at}"


def _flat(weights: Weights) -> Tensor:
    return torch.cat([value.detach().flatten() for value in weights.values()])
