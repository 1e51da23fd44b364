"""Attention in a net's own code, query, key and value in one layer: the same places of each head go, and the net
computes what it did with zeros there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit_plugins.prune.channels import prune_channels

HEADS, SIZE = 4, 8
WEAK = [1, 3, 4, 6]  # places of a head


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


SPLITS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "chunks": lambda x: tuple(map(_heads, x.chunk(3, -1))),
    "three by heads": lambda x: x.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0),
    "in each head": lambda x: x.unflatten(-1, (HEADS, -1)).transpose(1, 2).chunk(3, -1),
}  # pyright: ignore[reportAssignmentType]


class Attention(nn.Module):
    def __init__(self, split: str, scale: float | None = None) -> None:
        super().__init__()
        self.split, self.scale = SPLITS[split], scale
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.qkv, self.out = nn.Linear(12, 3 * HEADS * SIZE), nn.Linear(HEADS * SIZE, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.split(self.qkv(tokens))
        if self.scale is None:
            seen = F.scaled_dot_product_attention(q, k, v)
        else:
            seen = (q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
        return self.head((tokens + self.out(seen.transpose(1, 2).flatten(2))).mean(1))


@pytest.mark.parametrize("scale", [None, SIZE**-0.5])
@pytest.mark.parametrize("split", SPLITS)
def test_query_key_and_value_of_one_layer_become_narrower_head_by_head(
    split: str, scale: float | None
) -> None:
    torch.manual_seed(0)
    net, x = Attention(split, scale).eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():  # what is nothing in the given net must be what goes, and then nothing changes
        rows = net.qkv.weight.view(-1, SIZE, 12)
        rows[:, WEAK] = 0
        net.qkv.bias.view(-1, SIZE)[:, WEAK] = 0
        net.out.weight.view(12, HEADS, SIZE)[..., WEAK] = 0
        if scale is None:  # it follows the size of a head, which halves
            queries = SPLITS[split](torch.arange(3.0 * HEADS * SIZE).view(1, 1, -1))[0].flatten().long()
            net.qkv.weight[queries] = 0
            net.qkv.bias[queries] = 0
        before, parameters = net(x), net.qkv.weight.view(-1, SIZE, 12).clone()
    net, report = prune_channels(net, x[:1], 0.5, ignore=["patches", "out"])
    assert set(report.widths) == {"qkv"}
    assert (net.qkv.out_features, net.out.in_features) == (3 * HEADS * SIZE // 2, HEADS * SIZE // 2)
    strong = [place for place in range(SIZE) if place not in WEAK]
    assert torch.equal(net.qkv.weight.detach(), parameters[:, strong].reshape(-1, 12))
    torch.testing.assert_close(net(x), before)
