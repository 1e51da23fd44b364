"""Counts against closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compressit.contract import measure


def linears(*widths: int) -> nn.Module:
    pairs = pairwise(widths)
    return nn.Sequential(nn.Flatten(), *(m for i, o in pairs for m in (nn.Linear(i, o), nn.ReLU())))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_a_multilayer_perceptron_multiplies_once_per_weight(widths: list[int]) -> None:
    model = linears(*widths)
    weights = sum(i * o for i, o in pairwise(widths))
    assert measure.macs(model, (widths[0],)) == weights
    assert measure.parameters(model) == weights + sum(widths[1:])
    assert measure.tensor_bytes(model) == 4 * measure.parameters(model)


def test_the_blogs_net() -> None:
    assert measure.parameters(linears(784, 512, 512, 10)) == 669_706


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.booleans(),
    st.integers(5, 9),
)
def test_a_convolution(inputs: int, outputs: int, kernel: int, stride: int, grouped: bool, size: int) -> None:
    groups = inputs if grouped else 1
    model = nn.Conv2d(inputs, outputs * groups, kernel, stride, groups=groups)
    side = (size - kernel) // stride + 1
    expected = side**2 * kernel**2 * (inputs // groups) * outputs * groups
    assert measure.macs(model, (inputs, size, size)) == expected


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_counted_whole_and_the_model_left_as_it_was(training: bool) -> None:
    tokens, width, hidden = 7, 16, 24
    model = nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True).train(training)
    model.norm1.training = not training
    fast = torch.backends.mha.get_fastpath_enabled()
    expected = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert measure.macs(model, (tokens, width)) == expected
    assert (model.training, model.norm1.training) == (training, not training)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.is_grad_enabled()


def test_batch_norm_keeps_its_statistics() -> None:
    model = nn.BatchNorm1d(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure.macs(model, (3,))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Tied(nn.Module):
    """The same matrix twice, a buffer, and a buffer that is not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.zeros(5, dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(100), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def test_tied_weights_count_once_but_multiply_twice() -> None:
    model = Tied()
    with torch.no_grad():
        model.one.weight[:2] = 0
    assert measure.parameters(model) == 36
    assert measure.nonzero(model) == 24
    assert measure.tensor_bytes(model) == 4 * 36 + 8 * 5
    assert measure.macs(model, (6,)) == 72


def test_an_error_in_the_model_still_restores_everything() -> None:
    model = linears(4, 3).train()
    with pytest.raises(RuntimeError):
        measure.macs(model, (5,))
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_half_precision_weights() -> None:
    model = linears(8, 4).to(torch.bfloat16)
    assert measure.tensor_bytes(model) == 2 * 36
    assert measure.macs(model, (8,)) == 32


class Maxout(nn.Module):
    """Goodfellow et al. 2013: each unit is the largest of its pieces."""

    def __init__(self, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.one, self.two, self.head = (
            nn.Linear(units, units * pieces),
            nn.Linear(units, units * pieces),
            nn.Linear(units, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.one, self.two):
            x = layer(x).unflatten(1, (-1, self.pieces)).amax(2)
        return self.head(x)


def test_a_units_pieces_are_no_width_of_their_own() -> None:
    assert measure.hidden_width(Maxout(32, 2)) == 32
    gated = nn.Sequential(nn.Linear(8, 64), nn.GLU(), nn.Linear(32, 48), nn.GLU(), nn.Linear(24, 2))
    assert measure.hidden_width(gated) == 32


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_the_widest_hidden_layer_of_usual_nets() -> None:
    assert measure.hidden_width(linears(784, 512, 300, 10)) == 512
    flat = nn.Sequential(nn.Conv2d(1, 12, 3), nn.Flatten(), nn.Linear(12 * 36, 7), nn.Linear(7, 2))
    assert measure.hidden_width(flat) == 12
    attention = nn.TransformerEncoderLayer(16, 4, 40, batch_first=True)
    assert measure.hidden_width(nn.Sequential(attention, nn.Linear(16, 3))) == 40
    assert measure.hidden_width(nn.Linear(3, 4)) is None
    assert measure.hidden_width(nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 2))) == 0


def test_a_row_with_a_nan_answers_with_no_class() -> None:
    nan = float("nan")
    logits = torch.tensor([[0.0, 1.0], [nan, 1.0], [2.0, nan], [float("inf"), 0.0]])
    assert measure.answers(logits).tolist() == [1, -1, -1, 0]
