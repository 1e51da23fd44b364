"""Small nets of kinds that no report names: tried after what the reports name was mended."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import CLASSES, Net, block, pooled
from zoo_peers import Imaged, moved


class HighwayGate(Net):
    """A highway layer: a gate weighs what a layer gives against what it was given."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.way = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        gate = torch.sigmoid(self.gate(x))
        return self.head(torch.lerp(x, F.relu(self.way(x)), gate))


class Conditioned(Imaged):
    """FiLM: one linear layer gives a scale and a shift for each channel, from the input's means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.film, self.last = block(3, 8), nn.Linear(3, 16), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        scale, shift = self.film(pooled(x))[:, :, None, None].chunk(2, 1)
        return self.last(self.stem(x) * scale + shift)


class Dynamic(Imaged):
    """Dynamic convolution: kernels are mixed by attention over the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.choose = block(3, 8), nn.Linear(8, 3)
        self.kernels = nn.Parameter(torch.rand(3, 16, 8, 3, 3))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = self.choose(pooled(x)).softmax(1)
        kernel = torch.einsum("nk,koihw->noihw", weights, self.kernels)
        out = [F.conv2d(one[None], k, padding=1) for one, k in zip(x, kernel, strict=True)]
        return F.relu(torch.cat(out))


class Reparametrised(Imaged):
    """RepVGG: three branches of one sum, one of them a batch norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.narrow = block(3, 8), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.identity, self.last = nn.BatchNorm2d(8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(F.relu(self.wide(x) + self.narrow(x) + self.identity(x)))


class Factored(Imaged):
    """A low-rank pair of layers without anything between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rows, self.columns = (
            block(3, 8),
            nn.Conv2d(8, 6, (3, 1), padding=(1, 0)),
            nn.Conv2d(6, 16, (1, 3), padding=(0, 1)),
        )

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.columns(self.rows(self.stem(x))))


class Transposing(Net):
    """A linear layer over channels of an image through transposes, in place of a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = block(3, 8), nn.Linear(8, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.movedim(self.stem(x), 1, -1)
        return self.head(F.gelu(self.mix(x)).transpose(1, 3).transpose(2, 3).amax((2, 3)))


class ChannelAttention(Imaged):
    """XCiT: attention between channels; the map has the width of a head on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mixed, self.last = block(3, 8), nn.Conv2d(8, 24, 1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        q, k, v = self.mixed(self.stem(x)).flatten(2).unflatten(1, (3, 8)).unbind(1)
        x = ((q @ k.mT * 0.05).softmax(-1) @ v).unflatten(2, (8, 8))
        return self.last(x)


class NonLocal(Imaged):
    """A non-local block with 1 x 1 convolutions and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.theta, self.phi = block(3, 16), nn.Conv2d(16, 6, 1), nn.Conv2d(16, 6, 1)
        self.inner, self.back = nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pairs = (self.theta(x).flatten(2).mT @ self.phi(x).flatten(2)).softmax(-1)
        inner = (self.inner(x).flatten(2) @ pairs.mT).unflatten(2, x.shape[2:])
        return x + self.back(inner)


class SortedChannels(Imaged):
    """Channels are sorted by value at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x).sort(1).values)


class BestChannels(Imaged):
    """Only the four largest channels of every position stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x * (x >= x.topk(4, 1).values[:, -1:]))


class LocalResponse(Imaged):
    """AlexNet's local response norm: channels are divided by their neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.last = block(3, 8), nn.LocalResponseNorm(3, 1.0), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.stem(x)))


class EfficientAttention(Imaged):
    """ECA: a convolution along the channels makes the gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.along, self.last = block(3, 8), nn.Conv1d(1, 1, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.along(pooled(x)[:, None])[:, 0].sigmoid()
        return self.last(x * gate[:, :, None, None])


class ThreeInDepth(Imaged):
    """Channels are the depth of a 3-d convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.last = block(3, 8), nn.Conv3d(1, 2, 3, padding=1), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.deep(self.stem(x)[:, None]).flatten(1, 2))


class Hooked(Imaged):
    """A forward hook reverses the channels of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)
        self.stem.register_forward_hook(lambda layer, inputs, out: out.flip(1))

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x))


class Checkpointed(Imaged):
    """A block is computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = block(3, 8), block(8, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)
        return self.last(x + inner)


class Detached(Imaged):
    """A branch whose gradient is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.last = block(3, 8), block(8, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x + self.side(x.detach()).flip(1).detach())


class WithoutGradient(Imaged):
    """A frozen stem inside torch.no_grad, whose channels are swapped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.cat(self.stem(x).chunk(2, 1)[::-1], 1)
        return self.last(x)


class ArgMaxCode(Net):
    """A codebook: the nearest vector of a table stands for the features (VQ)."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.codes, self.head = nn.Linear(12, 8), nn.Embedding(16, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        near = torch.cdist(x, self.codes.weight).argmin(1)
        return self.head(x + self.codes(near))


class Quantised(Imaged):
    """Weights are rounded in the forward pass by a scale taken over the whole layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = block(3, 8), nn.Conv2d(8, 16, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        weight = self.wide.weight
        step = weight.abs().mean() / 2
        weight = weight + ((weight / step).round() * step - weight).detach()
        return F.relu(F.conv2d(self.stem(x), weight, self.wide.bias, padding=1))


class Spectral(Net):
    """A Fourier transform over the features, as FNet has it."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(12, 8), nn.Linear(8, 10), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(F.gelu(self.mix(x + torch.fft.fft2(x).real)).mean(1))


class Looped(Imaged):
    """One block is used as many times as it has channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = block(3, 4), block(4, 4), block(4, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(x.shape[1]):
            x = x + 0.3 * self.inner(x)
        return self.last(x)


RunningSums = moved("RunningSums", lambda x: x.cumsum(1))
ChannelPooling = moved(
    "ChannelPooling", lambda x: F.max_pool1d(x.flatten(2).mT, 2).mT.unflatten(2, (8, 8)), 16
)
WidthAsNumber = moved("WidthAsNumber", lambda x: x / x.shape[1] ** 0.5)

ATTACK = (
    HighwayGate, Conditioned, Dynamic, Reparametrised, Factored, Transposing, ChannelAttention, NonLocal,
    SortedChannels, BestChannels, RunningSums, LocalResponse, EfficientAttention, ChannelPooling, ThreeInDepth, Hooked,
    Checkpointed, Detached, WithoutGradient, ArgMaxCode, Quantised, Spectral, Looped, WidthAsNumber,
)  # fmt: skip
