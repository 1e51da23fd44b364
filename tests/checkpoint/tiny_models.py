"""A local plugin file: what makes saving hard, in models; `tiny.mlp`, which is easy, is with the tiny plugins."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.config import Config, NoOptions
from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Model
from compressit.contract.module_types import ModuleType
from compressit.datasets.specs import Inputs


class ConvConfig(Config):
    channels: tuple[int, int] = (8, 12)


class Conv(Model[ConvConfig]):
    """Convolution, batch norm, a depthwise convolution, and a linear layer."""

    name = "tiny.conv"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        first, second = self.config.channels
        return nn.Sequential(
            nn.Conv2d(inputs.shape[0], first, 3, padding=1),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, padding=1, groups=first),
            nn.Conv2d(first, second, 3, padding=1),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * inputs.shape[1] * inputs.shape[2] // 4, outputs),
        )


class Pooled(Model[NoOptions]):
    """One convolution and the mean of each channel: for pictures of any size."""

    name = "tiny.pooled"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        layers = [nn.Conv2d(inputs.shape[0], outputs, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers)


class DrawnNet(nn.Module):
    """Two tables whose values are drawn where they are made, as torch.nn.init's are not."""

    def __init__(self, rows: int, classes: int) -> None:
        super().__init__()
        self.one, self.other = (nn.Parameter(torch.randn(rows, classes)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() + self.one[0] * self.other[0]


class DrawnConfig(Config):
    rows: int = 4


class Drawn(Model[DrawnConfig]):
    """Tables of numbers."""

    name = "tiny.drawn"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        return DrawnNet(self.config.rows, outputs)


class TiedNet(nn.Module):
    """Tokens in, logits of tokens out; one weight for both ends."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, 6)
        self.head = nn.Linear(6, classes, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens).mean(1))


class Tied(Model[NoOptions]):
    """Tied weights, integer inputs."""

    name = "tiny.tied"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        return TiedNet(outputs)


class HeadsNet(nn.Module):
    """Numbers that live in attributes, a buffer that is not saved, one that is, and a frozen scale."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.num_heads = 2
        self.window = (1, 2)
        self.slope: float = 0.5
        self.mode = "plain"
        self.limit = None
        self._hidden = 1
        self.register_buffer("positions", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.scale = nn.Parameter(torch.full((width,), 2.0), requires_grad=False)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.flatten(1) * self.scale[: x[0].numel()] + self.positions[: x[0].numel()])
        heads = mixed.view(len(x), self.num_heads, -1).softmax(-1).flatten(1)
        extra = sum(self.window) * self._hidden + (1 if self.mode == "plain" else 2)
        return self.out(F.leaky_relu(heads, self.slope)) * extra


class Heads(Model[NoOptions]):
    """Attributes and buffers."""

    name = "tiny.heads"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        return HeadsNet(torch.Size(inputs.shape).numel(), outputs)


class TokensConfig(Config):
    width: int = 16
    heads: int = 2


class TokensNet(nn.Module):
    """Patches by a grouped convolution, layer norm and attention, a buffer that is not saved."""

    def __init__(self, channels: int, tokens: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, 2, stride=2, groups=2)
        self.group_norm = nn.GroupNorm(2, width)
        self.register_buffer("positions", torch.linspace(-1, 1, tokens)[:, None], persistent=False)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(self.patches(x)).flatten(2).transpose(1, 2) + self.positions
        normed = self.norm(tokens)
        return self.head((tokens + self.attention(normed, normed, normed)[0]).mean(1))


class Tokens(Model[TokensConfig]):
    """A small transformer block."""

    name = "tiny.tokens"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        channels, height, width = inputs.shape
        return TokensNet(channels, height * width // 4, self.config.width, self.config.heads, outputs)


class LowRank(nn.Module):
    """A linear layer as a product of two."""

    def __init__(self, inputs: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.rank = rank
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def _describe(layer: LowRank) -> dict[str, Any]:
    return {"inputs": layer.down.in_features, "rank": layer.rank, "outputs": layer.up.out_features}


@hookimpl
def compressit_models() -> list[type[Model]]:
    return [Pooled, Conv, Tied, Heads, Tokens, Drawn]


@hookimpl
def compressit_module_types() -> list[ModuleType]:
    return [ModuleType("tiny.LowRank", lambda: LowRank, _describe, lambda args: LowRank(**args))]
