from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit_plugins.models.mlp import Mlp, MlpConfig
from compressit_plugins.models.widths import narrowed

BLOG = [512, 410, 328, 263, 211, 169, 136, 109, 88, 71, 57, 46, 37, 30, 24, 20, 16, 13, 11, 9, 8, 7, 6, 5, 4]


def test_the_published_repeated_stage_of_widths() -> None:
    config = MlpConfig(hidden=(512, 512))
    for width in BLOG:
        assert config.hidden == (width, width)
        config = Mlp(config).with_width(0.8)


@given(st.integers(1, 100_000), st.integers(1, 99))
@example(50, 14)  # 7.000000000000001 in floating point
def test_widths_are_rounded_up_exactly(width: int, percent: int) -> None:
    assert narrowed(width, percent / 100) == math.ceil(Fraction(width * percent, 100))


def test_it_computes_what_the_formula_says() -> None:
    torch.manual_seed(0)
    model = Mlp(MlpConfig(hidden=(5, 4), activation="tanh")).build(TensorSpec((2, 3)), 7)
    x = torch.randn(11, 2, 3)
    weights = list(model.parameters())
    h = x.reshape(11, 6)
    for w, b in ((weights[0], weights[1]), (weights[2], weights[3])):
        h = torch.tanh(h @ w.T + b)
    torch.testing.assert_close(model(x), h @ weights[4].T + weights[5])


def test_fresh_weights_are_torchs_own() -> None:
    torch.manual_seed(3)
    model = Mlp(MlpConfig(hidden=(5,))).build(TensorSpec((4,)), 2)
    torch.manual_seed(3)
    first, last = nn.Linear(4, 5), nn.Linear(5, 2)
    for ours, theirs in zip(model.parameters(), [*first.parameters(), *last.parameters()], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_options_survive_a_checkpoint_and_rebuild_the_same_names(activation: str) -> None:
    config = MlpConfig.model_validate({"hidden": (6, 3), "activation": activation, "bias": False})
    again = parse(MlpConfig, dump(config))
    assert again == config
    model, other = (Mlp(c).build(TensorSpec((1, 2, 2)), 3) for c in (config, again))
    assert list(model.state_dict()) == list(other.state_dict())
    assert not [name for name in model.state_dict() if name.endswith("bias")]
    function = getattr(F, activation) if activation != "tanh" else torch.tanh
    x = torch.randn(5, 1, 2, 2)
    w1, w2, w3 = model.parameters()
    expected = function(function(x.flatten(1) @ w1.T) @ w2.T) @ w3.T
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("hidden", [[], [0], [8, -1], ["8"], 8])
def test_impossible_widths_are_refused(hidden: object) -> None:
    with pytest.raises(ValidationError, match="hidden"):
        parse(MlpConfig, {"hidden": hidden})


def test_a_residual_layer_adds_its_input_where_widths_are_equal() -> None:
    """The net of MNIST-1D's lottery-ticket notebook (Greydanus 2020): h + relu(W2 h)."""
    torch.manual_seed(0)
    config = MlpConfig(hidden=(5, 5, 3), residual=True)
    model = Mlp(config).build(TensorSpec((1, 4)), 2)
    w1, b1, w2, b2, w3, b3, w4, b4 = model.parameters()
    x = torch.randn(7, 1, 4)
    h = torch.relu(x.flatten(1) @ w1.T + b1)
    h = h + torch.relu(h @ w2.T + b2)
    torch.testing.assert_close(model(x), torch.relu(h @ w3.T + b3) @ w4.T + b4)
    torch.manual_seed(0)
    plain = Mlp(MlpConfig(hidden=(5, 5, 3))).build(TensorSpec((1, 4)), 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert Mlp(config).with_width(0.5) == MlpConfig(hidden=(3, 3, 2), residual=True)
