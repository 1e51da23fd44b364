"""First weights that a file replaces are not drawn; everything else is as it is without."""

from __future__ import annotations

import torch
from torch import nn

from compressit.checkpoint.modules import Unfilled


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.zeros(3), persistent=False)
        nn.init.normal_(self.weight)
        nn.init.constant_(self.scale, 2.0)
        with torch.no_grad():
            self.weight.uniform_(5, 6)


def test_parameters_keep_what_was_in_their_memory_and_buffers_are_filled() -> None:
    state = torch.get_rng_state()
    with Unfilled():
        layer = Layer()
    assert layer.weight.tolist() == [0, 0, 0]
    assert layer.scale.tolist() == [2, 2, 2]
    assert torch.equal(torch.get_rng_state(), state), "no weight was drawn"
    assert Layer().weight.min() >= 5, "outside of the block it is as ever"


def test_torchs_own_layers_draw_nothing() -> None:
    state = torch.get_rng_state()
    with Unfilled():
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.MultiheadAttention(8, 2))
    assert torch.equal(torch.get_rng_state(), state)
