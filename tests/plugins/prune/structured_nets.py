"""Small networks, each with one thing that makes taking out channels hard. Inputs (N, 3, 8, 8), 5 classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """Convolutions with batch norm, then flattened positions into a linear layer."""

    def __init__(self, first: int = 8, second: int = 12) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, first, 3, padding=1), nn.BatchNorm2d(first)
        self.conv2, self.norm2 = nn.Conv2d(first, second, 3, padding=1), nn.BatchNorm2d(second)
        self.head = nn.Linear(second * 4, 5)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 2).flatten(1))


class Residual(nn.Module):
    """Two layers whose outputs are added, and one that is free; the head starts with a batch norm."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.inner, self.inner_norm = nn.Conv2d(width, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.outer, self.outer_norm = nn.Conv2d(12, width, 3, padding=1), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = x + self.outer_norm(self.outer(F.relu(self.inner_norm(self.inner(x)))))
        return self.head(F.relu(x).mean((2, 3)))


class Concat(Plain):
    """The second layer reads the input of the first beside its output."""

    def __init__(self) -> None:
        super().__init__()
        self.third, self.third_norm = nn.Conv2d(20, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.norm1(self.conv1(x)))
        both = torch.cat([first, F.relu(self.norm2(self.conv2(first)))], 1)
        return self.head(F.relu(self.third_norm(self.third(both))).mean((2, 3)))


class Grouped(Plain):
    """A grouped and a depthwise convolution between the two."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped, self.grouped_norm = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.depthwise, self.depthwise_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.grouped_norm(self.grouped(x)))
        x = F.relu(self.depthwise_norm(self.depthwise(x)))
        return F.relu(self.norm2(self.conv2(x)))


class Squeeze(Plain):
    """The classifier is a convolution, followed by ReLU and a mean, as in SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.head(self.features(x))).mean((2, 3))


class Scaled(Plain):
    """Parameters outside layers: a scale for each channel, a map for each channel, and one number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.place = nn.Parameter(torch.rand(1, 12, 8, 8))
        self.gain = nn.Parameter(torch.ones(1))

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x))) * self.scale
        return F.relu(self.norm2(self.conv2(x)) + self.place) * self.gain


class Attention(nn.Module):
    """Self-attention as timm writes it: one layer for queries, keys and values; sizes kept in attributes."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.attn_dim = width
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, tokens, self.attn_dim))


class Transformer(nn.Module):
    """Patches, positions, attention and a multilayer perceptron with residuals and layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, 4, 12))
        self.norm1, self.attention = nn.LayerNorm(12), Attention(12, 3)
        self.norm2, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 16), nn.Linear(16, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        x = x + self.attention(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class Constant(Plain):
    """The number of channels is written into the code."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x) * torch.ones(12, 1, 1)


class Auxiliary(Plain):
    """A second classifier that runs only in training, as in GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out = super().forward(x)
        return (out, self.aux(self.conv1(x)).mean((2, 3))) if self.training else out


class Tied(nn.Module):
    """Two layers share one weight; a third is free."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(192, 192), nn.Linear(192, 192)
        self.again.weight = self.first.weight
        self.free, self.head = nn.Linear(192, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.again(F.relu(self.first(x.flatten(1)))))
        return self.head(F.relu(self.free(x)))


def example() -> Tensor:
    return torch.zeros(1, 3, 8, 8)


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def built(cls: type[nn.Module], seed: int = 0) -> nn.Module:
    """A seeded network with lively batch norms, in train mode."""
    torch.manual_seed(seed)
    net = cls()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net
