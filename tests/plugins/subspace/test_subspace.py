"""`train.subspace`: the weights stay in the subspace, the plain net comes back, and training is as any other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.datasets.splits import order
from compressit.errors import CompressitError
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.subspace.bases import Kind, drawn
from compressit_plugins.subspace.subspace import Subspace, SubspaceConfig

KINDS: tuple[Kind, ...] = ("dense", "sparse", "fastfood")


def options(**values: Any) -> SubspaceConfig:
    return SubspaceConfig.model_validate({"batch_size": 64, "dimension": 6, "epochs": 2, **values})


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).double()


def columns(ctx: Any, weights: int, dimension: int, kind: Kind = "sparse") -> Tensor:
    """P, as the stage draws it."""
    basis = drawn(kind, weights, dimension, ctx.streams.generator("basis"), "cpu", torch.float64)
    return torch.stack([basis.expand(unit) for unit in torch.eye(dimension, dtype=torch.float64)], 1)


def outside(moved: Tensor, basis: Tensor) -> float:
    """The part of `moved` that does not lie in the span of the basis, as a share."""
    inside = basis @ torch.linalg.lstsq(basis, moved).solution
    return float((moved - inside).norm() / moved.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_move_within_the_subspace_alone(lab: Lab, kind: Kind, device: str) -> None:
    ctx, before = lab.context(data=lab.data(device), device=device), flat(lab.mlp(20))
    config = options(basis=kind, optimizer={"name": "adam", "lr": 0.1})
    trained = Subspace(config).train(lab.mlp(20).to(device), ctx).cpu()
    moved = flat(trained) - before
    assert float(moved.norm()) > 0.1
    assert outside(moved, columns(ctx, len(before), 6, kind)) < 1e-5
    assert ctx.notes["subspace_of"] == len(before) == 64 * 20 + 20 + 20 * 10 + 10
    assert type(trained) is type(lab.mlp(20))
    assert trained.state_dict().keys() == lab.mlp(20).state_dict().keys()
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_it_takes_the_steps_of_a_hand_written_loop(lab: Lab) -> None:
    data = lab.data(train=150)
    ctx = lab.context(data=data)
    trained = Subspace(options(optimizer={"name": "adam", "lr": 0.05})).train(lab.mlp(), ctx)

    net = lab.mlp()
    start, basis = flat(net), columns(ctx, len(flat(net)), 6)
    coordinates = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = torch.optim.Adam([coordinates], lr=0.05)
    x, y = data.train.tensors()
    for epoch in range(2):
        for index in order(150, ctx.streams, epoch, "cpu").split(64):
            weights = iter((start + basis @ coordinates).split([p.numel() for p in net.parameters()]))
            values = {name: next(weights).view(p.shape).float() for name, p in net.named_parameters()}
            optimizer.zero_grad()
            F.cross_entropy(torch.func.functional_call(net, values, x[index]), y[index]).backward()
            optimizer.step()
    torch.testing.assert_close(flat(trained), start + (basis @ coordinates).detach(), rtol=0, atol=1e-4)


def test_more_dimensions_fit_better(lab: Lab) -> None:
    data, losses = lab.data(train=512, noise=0.1), []
    for dimension in (1, 30, 300):
        ctx = lab.context(data=data)
        config = options(dimension=dimension, epochs=8, optimizer={"name": "adam", "lr": 0.05})
        Subspace(config).train(lab.mlp(20), ctx)
        losses.append(ctx.curves["loss"][-1][1])
    assert losses[0] > losses[1] + 0.3 > losses[2] + 0.6


@pytest.mark.parametrize("radius", [None, 1.5])
def test_pruned_weights_stay_zero_and_take_no_part(lab: Lab, radius: float | None, device: str) -> None:
    model = lab.mlp(20).to(device)
    masks = prune_smallest(model, 0.8)
    before = copy.deepcopy(model).cpu()
    ctx = lab.context(data=lab.data(device), device=device)
    trained = Subspace(options(optimizer={"lr": 1.0}, radius=radius)).train(model, ctx).cpu()
    for name, mask in masks.items():
        assert torch.equal(trained.get_parameter(name) == 0, mask.cpu())
    kept = flat(before) != 0
    assert int(kept.sum()) == ctx.notes["subspace_of"] == 1510 - ctx.notes["zeros_kept"]
    basis = columns(ctx, int(kept.sum()), 6)
    if radius is not None:  # multiples of the first weights too
        basis = torch.cat([basis, flat(before)[kept][:, None]], 1)
    assert outside((flat(trained) - flat(before))[kept], basis) < 1e-5


def test_frozen_layers_take_no_part(lab: Lab) -> None:
    model = lab.mlp(20)
    frozen = next(model.parameters()).requires_grad_(False)
    before, ctx = frozen.clone(), lab.context(data=lab.data())
    trained = Subspace(options(optimizer={"lr": 1.0})).train(model, ctx)
    assert torch.equal(next(trained.parameters()), before)
    assert [p.requires_grad for p in trained.parameters()] == [False, True, True, True]
    assert ctx.notes["subspace_of"] == 1510 - 1280


def convnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


@pytest.mark.parametrize("radius", [None, "initial"])
def test_killed_and_resumed_it_ends_with_the_same_bits(lab: Lab, radius: str | None) -> None:
    config = options(
        epochs=4, radius=radius, optimizer={"name": "adam", "lr": 0.05}, schedule={"name": "cosine"},
        ema=0.9 if radius is None else None,
    )  # fmt: skip
    whole = Subspace(config).train(convnet(), lab.context(data=lab.data()))
    progress = KilledAfter(2)
    with pytest.raises(Killed):
        Subspace(config).train(convnet(), lab.context(data=lab.data(), progress=progress))
    resumed = Subspace(config).train(convnet(), lab.context(data=lab.data(), progress=progress))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_the_average_lies_in_the_subspace_too(lab: Lab) -> None:
    ctx, before = lab.context(data=lab.data()), flat(lab.mlp(20))
    plain = flat(Subspace(options(optimizer={"lr": 1.0})).train(lab.mlp(20), lab.context(data=lab.data())))
    averaged = flat(Subspace(options(optimizer={"lr": 1.0}, ema=0.9)).train(lab.mlp(20), ctx))
    assert outside(averaged - before, columns(ctx, len(before), 6)) < 1e-5
    assert not torch.equal(averaged, plain)


def test_the_best_epoch_comes_back(lab: Lab) -> None:
    data = lab.data(train=256, validation=64, noise=0.8)
    ctx = lab.context(data=data)
    trained = Subspace(options(epochs=6, optimizer={"lr": 30.0}, restore_best=True)).train(lab.mlp(20), ctx)
    best = max(value for _, value in ctx.curves["validation_accuracy"])
    outputs = ctx.compute.forward(trained, data.validation)
    assert float((outputs.argmax(1) == data.validation.y).float().mean()) == pytest.approx(best)
    assert ctx.curves["validation_accuracy"][-1][1] < best, "else it shows nothing"


@pytest.mark.parametrize("multiple", [0.5, 3.0])
def test_on_a_sphere_the_norm_is_the_radius_and_directions_are_those_of_the_subspace(
    lab: Lab, multiple: float
) -> None:
    ctx, before = lab.context(data=lab.data()), flat(lab.mlp(20))
    config = options(radius=multiple, optimizer={"name": "adam", "lr": 0.1})
    after = flat(Subspace(config).train(lab.mlp(20), ctx))
    glorot = (2 * 1280 / 84 + 2 * 200 / 30) ** 0.5
    assert float(after.norm()) == pytest.approx(multiple * glorot, rel=1e-6)
    assert ctx.notes["radius"] == pytest.approx(multiple * glorot)
    assert ctx.notes["glorot_radii"] == pytest.approx(multiple)
    span = torch.cat([columns(ctx, len(before), 6), before[:, None]], 1)
    assert outside(after, span) < 1e-5
    assert outside(after, before[:, None]) > 0.01, "it moved"


@pytest.mark.parametrize("found", [True, False])
def test_what_cannot_work_is_told_before_anything_is_trained(lab: Lab, found: bool) -> None:
    ctx = lab.context(data=lab.data())
    config = options(dimension=1511 if found else 1510)
    if not found:
        Subspace(config).dry_run(lab.mlp(20), ctx)
        return
    for act in (Subspace(config).dry_run, Subspace(config).train):
        with pytest.raises(CompressitError, match="1,511 dimensions"):
            act(lab.mlp(20), ctx)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"optimizer": {"weight_decay": 0.1}}, "decay_all"),
        ({"radius": "initial", "ema": 0.9}, "ema"),
        ({"radius": 0}, "radius"),
        ({"dimension": 0}, "dimension"),
    ],
)
def test_options_without_a_meaning_are_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        options(**values)
