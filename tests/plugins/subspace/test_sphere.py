"""`train.sphere`: the norm of all weights is the radius after each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.datasets.splits import order
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.subspace.sphere import Sphere, SphereConfig


def options(**values: Any) -> SphereConfig:
    return SphereConfig.model_validate({"batch_size": 64, "epochs": 2, **values})


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).double()


def test_it_takes_the_steps_of_a_hand_written_loop(lab: Lab, device: str) -> None:
    """As Liu et al. have it: an AdamW step, then all parameters times initial norm / norm."""
    ctx = lab.context(data=lab.data(device, train=150), device=device)
    config = options(optimizer={"name": "adamw", "lr": 0.01})
    trained = Sphere(config).train(lab.mlp().to(device), ctx)

    net = lab.mlp().to(device)
    initial = flat(net).norm()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0)
    x, y = ctx.data.train.tensors()
    for epoch in range(2):
        for index in order(150, ctx.streams, epoch, device).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
            factor = float(initial / flat(net).norm())
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(factor)
    torch.testing.assert_close(flat(trained), flat(net), rtol=0, atol=1e-5)
    assert ctx.notes["radius"] == pytest.approx(float(initial), rel=1e-6)


@pytest.mark.parametrize("radius", [0.1, 4.0])
def test_it_starts_on_the_sphere_and_stays_there(lab: Lab, radius: float) -> None:
    ctx = lab.context(data=lab.data())
    trained = Sphere(options(radius=radius, optimizer={"lr": 1e-9})).train(lab.mlp(20), ctx)
    assert float(flat(trained).norm()) == pytest.approx(
        radius * (2 * 1280 / 84 + 2 * 200 / 30) ** 0.5, rel=1e-6
    )
    direction = flat(lab.mlp(20))
    torch.testing.assert_close(flat(trained) / flat(trained).norm(), direction / direction.norm())


def test_the_scale_of_the_outputs_is_told(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(train=300))
    trained = Sphere(options(radius=2.0)).train(lab.mlp(20), ctx)
    with torch.no_grad():
        outputs = trained(ctx.data.train.x)
    assert ctx.notes["output_scale"] == pytest.approx(
        float(outputs.var(1, unbiased=False).mean().sqrt()), rel=1e-5
    )


def test_pruned_weights_stay_zero_and_frozen_ones_as_they_are(lab: Lab) -> None:
    model = lab.mlp(20)
    masks = prune_smallest(model, 0.8)
    (last := [*model.parameters()][-1]).requires_grad_(False)
    before, ctx = last.clone(), lab.context(data=lab.data())
    trained = Sphere(options(radius=1.0, optimizer={"lr": 0.5})).train(model, ctx)
    for name, mask in masks.items():
        assert torch.equal(trained.get_parameter(name) == 0, mask)
    assert ctx.notes["zeros_kept"] == sum(int(mask.sum()) for mask in masks.values())
    assert torch.equal([*trained.parameters()][-1], before)
    learns = torch.cat([p.detach().flatten() for p in trained.parameters() if p.requires_grad])
    assert float(learns.norm()) == pytest.approx(ctx.notes["radius"], rel=1e-6)


def test_killed_and_resumed_it_ends_with_the_same_bits(lab: Lab) -> None:
    config = options(epochs=4, radius=2.0, optimizer={"name": "adam", "lr": 0.01})
    whole = Sphere(config).train(lab.mlp(20), lab.context(data=lab.data()))
    progress = KilledAfter(2)
    with pytest.raises(Killed):
        Sphere(config).train(lab.mlp(20), lab.context(data=lab.data(), progress=progress))
    resumed = Sphere(config).train(lab.mlp(20), lab.context(data=lab.data(), progress=progress))
    assert torch.equal(flat(resumed), flat(whole))


def test_an_average_would_leave_the_sphere() -> None:
    with pytest.raises(ValidationError, match="ema"):
        options(ema=0.9)
