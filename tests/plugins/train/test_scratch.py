"""`train.scratch`: the shape and the zeros stay, the weights owe nothing to those that it was given."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from torch import nn
from torchvision.models import VisionTransformer

from compressit.contract.init_options import InitConfig
from compressit.errors import CompressitError
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.train.fresh_weights import redraw
from compressit_plugins.train.scratch import Scratch
from compressit_plugins.train.supervised import Supervised, SupervisedConfig

CONFIG = SupervisedConfig.model_validate({"epochs": 2, "batch_size": 64, "optimizer": {"lr": 0.1}})


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def convnet() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


@pytest.mark.parametrize("edited", [False, True], ids=["as built", "of another shape"])
def test_nothing_of_the_given_weights_is_left(lab: Lab, edited: bool, device: str) -> None:
    fields: dict[str, Any] = {} if edited else {"narrow": lab.narrow(20)}
    trained = []
    for seed in (0, 1):
        ctx = lab.context(data=lab.data(device), device=device, **fields)
        trained.append(Scratch(CONFIG).train(lab.mlp(20, seed=seed), ctx))
        assert ctx.notes["fresh_weights"], "so that a comparison counts no epochs before"
    assert same(*trained)


def test_it_is_supervised_training_of_what_the_model_plugin_draws(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(), narrow=lab.narrow(20))
    expected = Supervised(CONFIG).train(lab.narrow(20)(1, 0), lab.context(data=lab.data()))
    assert same(Scratch(CONFIG).train(lab.mlp(20), ctx), expected)


def test_the_zeros_of_pruned_weights_are_the_very_same(lab: Lab, device: str) -> None:
    model = lab.mlp(20).to(device)
    masks = prune_smallest(model, 0.8)
    before = copy.deepcopy(model)
    trained = Scratch(CONFIG).train(model, lab.context(data=lab.data(device), device=device))
    for name, mask in masks.items():
        assert torch.equal(trained.get_parameter(name) == 0, mask), name
        assert not torch.equal(trained.get_parameter(name), before.get_parameter(name))
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert kept == round(0.8 * (64 * 20 + 20 * 10))


def test_statistics_of_batch_norms_start_anew() -> None:
    net = convnet()
    net[1].running_mean.fill_(5.0)
    redraw(net, 0)
    assert torch.equal(net[1].running_mean, torch.zeros(6))
    assert torch.equal(net[1].weight, torch.ones(6))


def test_fresh_weights_have_torchs_own_distribution_and_leave_its_random_state_alone() -> None:
    net, state = nn.Sequential(nn.Linear(400, 300)), torch.random.get_rng_state()
    redraw(net, 7)
    bound = 1 / 400**0.5  # torch's own: uniform in +-1/sqrt(inputs)
    assert float(net[0].weight.abs().max()) <= bound
    assert float(net[0].weight.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert torch.equal(torch.random.get_rng_state(), state)
    again, scaled = copy.deepcopy(net), copy.deepcopy(net)
    redraw(again, 7)
    assert same(net, again)
    redraw(scaled, 7, InitConfig(scale=0.5))
    torch.testing.assert_close(scaled[0].weight, net[0].weight * 0.5)


def test_frozen_parameters_keep_their_values() -> None:
    net = convnet()
    net[0].weight.requires_grad_(False)
    before = copy.deepcopy(net)
    redraw(net, 0)
    assert torch.equal(net[0].weight, before[0].weight)
    assert not torch.equal(net[0].bias, before[0].bias)


def test_a_layer_that_cannot_be_drawn_again_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

    with pytest.raises(CompressitError, match="'1' \\(Scale\\) cannot be given fresh weights"):
        redraw(nn.Sequential(nn.Linear(2, 3), Scale()), 0)


def vit(multiplier: float = 1, times: int = 0) -> nn.Module | None:
    """As its model plugin builds it, which knows no narrower one: with a class token and a table of positions."""
    if times:
        return None
    net = VisionTransformer(8, 4, 2, 3, 12, 16, num_classes=10)
    nn.init.normal_(net.class_token)  # else zeros
    return net


def built(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = vit()
    assert net is not None
    return net


def narrow(multiplier: float, times: int) -> nn.Module | None:
    torch.manual_seed(9)
    return vit(multiplier, times)


def test_parameters_that_no_layer_draws_come_from_the_net_as_it_is_built() -> None:
    net, fresh = built(0), built(9)
    prune_channels(net, torch.zeros(1, 3, 8, 8), 0.6)
    redraw(net, 3, built=fresh)
    assert net.class_token.shape == (1, 1, 6)
    assert torch.equal(net.class_token, fresh.class_token[:, :, :6])
    assert torch.equal(net.encoder.pos_embedding, fresh.encoder.pos_embedding[:, :, :6])
    again = built(1)
    prune_channels(again, torch.zeros(1, 3, 8, 8), 0.6)
    redraw(again, 3, built=fresh)
    assert same(net, again), "nothing of the given weights is left"


@pytest.mark.parametrize("fresh", [None, "narrower", "other"])
def test_without_such_a_net_they_are_named(fresh: str | None) -> None:
    nets = {"narrower": VisionTransformer(8, 4, 2, 3, 6, 16), "other": nn.Linear(2, 3)}
    with pytest.raises(
        CompressitError, match=r"'the model' \(VisionTransformer\) cannot be given fresh weights"
    ):
        redraw(built(0), 3, built=nets.get(fresh or ""))


@pytest.mark.parametrize("pruned", [False, True])
def test_a_vision_transformer_is_trained_from_scratch(lab: Lab, pruned: bool) -> None:
    trained = []
    for seed in (0, 1):
        net = built(seed)
        if pruned:
            prune_channels(net, torch.zeros(1, 3, 8, 8), 0.6)
        ctx = lab.context(data=lab.data(shape=[3, 8, 8], train=64, test=16), narrow=narrow)
        trained.append(Scratch(CONFIG).train(net, ctx))
    assert same(*trained)
    assert trained[0].class_token.shape[2] == (6 if pruned else 12)


def test_killed_and_resumed_it_ends_with_the_same_weights(lab: Lab) -> None:
    config = CONFIG.model_copy(update={"epochs": 4})
    whole = Scratch(config).train(lab.mlp(20), lab.context(data=lab.data()))
    progress = KilledAfter(2)
    with pytest.raises(Killed):
        Scratch(config).train(lab.mlp(20), lab.context(data=lab.data(), progress=progress))
    assert same(Scratch(config).train(lab.mlp(20), lab.context(data=lab.data(), progress=progress)), whole)
