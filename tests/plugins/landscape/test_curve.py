from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import KilledAfter, Lab
from torch import Tensor, nn

from compressit import CompressitError, StageContext
from compressit_plugins.landscape.connecting import Path, shares_at
from compressit_plugins.landscape.curve import Curve
from compressit_plugins.landscape.curve_options import CurveConfig

ADAM: dict[str, Any] = {"name": "adam", "lr": 0.01}
OPTIONS: dict[str, Any] = {
    "other": "other", "epochs": 3, "batch_size": 32, "optimizer": ADAM, "points": 5, "images": 200,
}  # fmt: skip


def _curved(model: nn.Module, ctx: StageContext, **options: Any) -> nn.Module:
    return Curve(CurveConfig(**{**OPTIONS, **options})).train(model, ctx)


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_bezier_curves_and_polygons_are_those_of_the_textbook() -> None:
    for t in (0.0, 0.2, 0.5, 1.0):
        at = torch.tensor(t, dtype=torch.float64)
        expected = [(1 - t) ** 2, 2 * t * (1 - t), t**2]
        assert shares_at(at, "bezier", 1).tolist() == pytest.approx(expected)
        corners = [max(0, 1 - 2 * t), 1 - abs(2 * t - 1), max(0, 2 * t - 1)]
        assert shares_at(at, "polygon", 1).tolist() == pytest.approx(corners)
        assert float(shares_at(at, "bezier", 3).sum()) == pytest.approx(1)
    assert shares_at(torch.tensor(0.4), "polygon", 4).tolist() == pytest.approx([0, 0, 1, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("polygon", 3)])
def test_untrained_the_curve_is_the_straight_line(lab: Lab, kind: Any, bends: int) -> None:
    net, other = lab.mlp(), lab.mlp(seed=1)
    path = Path(net, other, kind, bends)
    for at in (0.0, 0.3, 1.0):
        point = sum(share * torch.cat([v.flatten() for v in p.values()])
                    for share, p in zip(path.shares(at), path.points(), strict=True))  # fmt: skip
        torch.testing.assert_close(point, (1 - at) * _flat(net) + at * _flat(other))


def test_in_training_it_is_the_net_at_a_place_drawn_uniformly(lab: Lab) -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor([value]))

        def forward(self, x: Tensor) -> Tensor:
            return self.value * x

    path = Path(Constant(0.0), Constant(1.0), "bezier", 1)
    torch.manual_seed(0)
    drawn = torch.cat([path(torch.ones(1)).detach() for _ in range(2000)])
    quarters = (4 * drawn).long().bincount(minlength=4) / 2000
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.04)
    assert path.eval()(torch.ones(1)).item() == pytest.approx(0.5)
    assert [p.shape for p in path.parameters() if p.requires_grad] == [(1,)], "only the bend"


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_the_loss_on_the_curve_falls_below_that_on_the_line(lab: Lab, kind: Any) -> None:
    """Ends are one trained net and the same with its units exchanged: between them the line has a barrier."""
    torch.manual_seed(0)
    data = lab.data(train=200, noise=0.2)
    net = lab.mlp(12)
    x, y = data.train.tensors()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    exchanged = copy.deepcopy(net)
    first, last = (module for module in exchanged if isinstance(module, nn.Linear))
    order = torch.arange(12).roll(5)
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        last.weight.copy_(last.weight[:, order])
    halfway = copy.deepcopy(net)
    with torch.no_grad():
        for p, q in zip(halfway.parameters(), exchanged.parameters(), strict=True):
            p.lerp_(q, 0.5)
        barrier = float(nn.functional.cross_entropy(halfway(x), y))
        end = float(nn.functional.cross_entropy(net(x), y))
    ctx = lab.context({"other": exchanged}, data)
    before = _flat(net)
    result = _curved(copy.deepcopy(net), ctx, kind=kind, epochs=30)
    assert barrier > 10 * end
    assert ctx.notes["curve_end_loss"] == pytest.approx(end, rel=1e-4)
    assert end <= ctx.notes["curve_highest_loss"] < barrier / 3
    assert [at for at, _ in ctx.curves["curve_loss"]] == [0, 0.25, 0.5, 0.75, 1]
    assert len(ctx.curves["curve_accuracy"]) == 5
    (bend,) = ctx.arrays["bends"]
    middle = before / 4 + torch.from_numpy(bend) / 2 + _flat(exchanged) / 4
    torch.testing.assert_close(_flat(result), middle if kind == "bezier" else torch.from_numpy(bend))
    with torch.no_grad():
        there = float(nn.functional.cross_entropy(result(x), y))
    assert dict(ctx.curves["curve_loss"])[0.5] == pytest.approx(there, rel=1e-4)


def test_the_net_that_is_given_is_the_one_at_the_place_asked_for(lab: Lab) -> None:
    other = lab.mlp(seed=1)
    ctx = lab.context({"other": other}, lab.data(train=40))
    assert torch.equal(_flat(_curved(lab.mlp(), ctx, epochs=1, at=1.0)), _flat(other))


def test_a_killed_training_goes_on_with_the_same_bits(lab: Lab, killed: type[Exception]) -> None:
    other, data = lab.mlp(seed=1), lab.data(train=80)
    whole = lab.context({"other": other}, data)
    expected = _curved(lab.mlp(), whole)
    progress = KilledAfter(2)
    with pytest.raises(killed):
        _curved(lab.mlp(), lab.context({"other": other}, data, progress=progress))
    again = lab.context({"other": other}, data, progress=progress)
    assert torch.equal(_flat(_curved(lab.mlp(), again)), _flat(expected))
    assert (again.curves, again.notes) == (whole.curves, whole.notes)


def test_what_both_ends_have_pruned_stays_zero(lab: Lab) -> None:
    net, other = lab.mlp(), lab.mlp(seed=1)
    with torch.no_grad():
        for end in (net, other):
            next(end.parameters())[:8, :30] = 0
        next(net.parameters())[9:] = 0  # of one end only
    ctx = lab.context({"other": other}, lab.data(train=80))
    weight = next(_curved(net, ctx).parameters())
    assert ctx.notes["zeros_kept"] == 8 * 30
    assert not weight[:8, :30].any()
    assert weight[9:].all()


def test_batch_norms_of_the_given_net_fit_its_weights(lab: Lab) -> None:
    def built(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))

    data = lab.data(train=80)
    result = _curved(built(0), lab.context({"other": built(1)}, data))
    x, _ = data.train.tensors()
    torch.testing.assert_close(result[2].running_mean, result[1](result[0](x)).mean(0).detach())


def test_a_net_of_other_widths_is_refused(lab: Lab) -> None:
    with pytest.raises(CompressitError, match="other"):
        _curved(lab.mlp(), lab.context({"other": lab.mlp(8)}, lab.data(train=40)))
