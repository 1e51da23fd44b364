"""Against closed forms of the papers, and torch.nn.init."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compressit.contract.init_options import InitConfig
from compressit.contract.initial import initialise
from compressit.errors import CompressitError

LAYERS = {
    "linear": lambda: nn.Linear(300, 200),  # 300 inputs, 200 outputs
    "conv": lambda: nn.Conv2d(48, 64, 5),  # 48 * 25 inputs, 64 * 25 outputs
    "grouped": lambda: nn.Conv1d(64, 64, 9, groups=4),  # 16 * 9 inputs, 64 * 9 outputs as torch counts
}
FANS = {"linear": (300, 200), "conv": (1200, 1600), "grouped": (144, 576)}
VARIANCE = {
    "kaiming": lambda inputs, outputs: 2 / inputs,
    "xavier": lambda inputs, outputs: 2 / (inputs + outputs),
    "lecun": lambda inputs, outputs: 1 / inputs,
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scheme", VARIANCE)
def test_a_scheme_has_the_variance_of_its_paper_and_no_biases(scheme: str, layer: str) -> None:
    torch.manual_seed(0)
    net = LAYERS[layer]()
    initialise(net, InitConfig(scheme=scheme))  # type: ignore[arg-type]
    wanted, weight = VARIANCE[scheme](*FANS[layer]), net.weight.detach().double()
    error = math.sqrt(2 / weight.numel())  # of a variance, in multiples of it, for normal numbers
    assert float(weight.var()) == pytest.approx(wanted, rel=5 * error)
    assert float(weight.mean()) == pytest.approx(0, abs=5 * math.sqrt(wanted / weight.numel()))
    assert not net.bias.any()
    if scheme == "xavier":
        bound = math.sqrt(3 * wanted)
        assert 0.99 * bound < float(weight.abs().max()) <= bound
    else:
        kurtosis = float(((weight - weight.mean()) ** 4).mean() / weight.var() ** 2)
        assert kurtosis == pytest.approx(3, abs=5 * math.sqrt(24 / weight.numel()))


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape: tuple[int, int]) -> None:
    net = nn.Linear(*shape)
    initialise(net, InitConfig(scheme="orthogonal"))
    weight = net.weight.detach()
    product = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
    torch.testing.assert_close(product, torch.eye(20), atol=1e-5, rtol=0)


def test_scale_multiplies_what_the_scheme_or_the_plugin_drew_and_nothing_else() -> None:
    def net() -> nn.Sequential:
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))

    plain, scaled = net().state_dict(), net()
    initialise(scaled, InitConfig(scale=0.25))
    for name, value in scaled.state_dict().items():
        assert torch.equal(value, plain[name] * (1 if name.startswith("1.") else 0.25)), name
    one, other = net(), net()
    initialise(one, InitConfig(scheme="kaiming"))
    torch.manual_seed(3)
    net()
    initialise(other, InitConfig(scheme="kaiming", scale=3))
    assert torch.equal(other[3].weight, one[3].weight * 3)


def test_the_default_touches_nothing_and_draws_nothing() -> None:
    net = nn.Linear(4, 3)
    before, state = net.weight.detach().clone(), torch.random.get_rng_state()
    initialise(net, InitConfig(draw=4))
    assert torch.equal(net.weight, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_net_without_such_layers_is_refused_and_a_computed_weight_kept() -> None:
    with pytest.raises(CompressitError, match="no linear or convolutional layer"):
        initialise(nn.BatchNorm1d(3), InitConfig(scale=2))
    net = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    before = net[1].weight.detach().clone()
    initialise(net, InitConfig(scale=2))
    assert torch.equal(net[1].weight, before)
