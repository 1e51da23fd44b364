"""Small nets of further kinds, as papers and libraries write them: attention variants, recurrence by hand, necks,
gates, tied weights, branches by mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import CLASSES, Net, block, pooled
from zoo_peers import Imaged


class PyramidHeads(Net):
    """A detector: one head runs on every level of a pyramid, its class maps are flattened and concatenated."""

    shape = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = block(3, 8, stride=2), block(8, 12, stride=2)
        self.laterals = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(12, 8, 1)])
        self.smooth, self.tower = nn.Conv2d(8, 8, 3, padding=1), block(8, 8)
        self.classes = nn.Conv2d(8, 2 * CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.laterals[1](self.high(low))
        low = self.laterals[0](low) + F.interpolate(high, size=low.shape[-2:], mode="nearest")
        found: list[Tensor] = []
        for level in (self.smooth(low), high):
            maps = self.classes(self.tower(level))
            n, _, h, w = maps.shape
            maps = maps.view(n, 2, CLASSES, h, w).permute(0, 3, 4, 1, 2)
            found.append(maps.reshape(n, -1, CLASSES))
        return torch.cat(found, 1).mean(1)


class GroupsShuffled(Imaged):
    """A bottleneck of grouped convolutions whose channels are shuffled between, and a shortcut around."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = block(3, 12), nn.Conv2d(12, 12, 1, groups=3)
        self.outer, self.last = nn.Conv2d(12, 12, 3, padding=1, groups=3), block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        y = F.relu(self.inner(x)).view(n, 3, c // 3, h, w).transpose(1, 2).flatten(1, 2)
        return self.last(F.relu(x + self.outer(y)))


class PoolingBranches(Imaged):
    """Branches of one module are concatenated, one of them a pooling of its input without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(3, 8), block(8, 6, 1), block(8, 4)
        self.last = block(18, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(torch.cat([self.one(x), F.max_pool2d(x, 3, 1, 1), self.two(x)], 1))


class PaddedTransition(Imaged):
    """Dense growth, a transition, and a shortcut that is padded with zeros to what it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grow, self.transition = block(3, 8), block(8, 4), block(12, 10, 1)
        self.last = block(10, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.transition(torch.cat([x, self.grow(x)], 1))
        return self.last(y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1])))


class Cropped(Net):
    """A U-net without padding: what is concatenated is cropped to the middle."""

    shape = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = block(3, 8, padding=0), block(8, 12, padding=0)
        self.up, self.last = nn.ConvTranspose2d(12, 6, 2, 2), block(14, 8, padding=0)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        y = self.up(self.deep(F.max_pool2d(x, 2)))
        cut = (x.shape[-1] - y.shape[-1]) // 2
        y = torch.cat([x[..., cut : cut + y.shape[-2], cut : cut + y.shape[-1]], y], 1)
        return self.head(self.last(y)).mean((2, 3))


class PatchesToTokens(Imaged):
    """MobileViT: positions of patches become a batch for a transformer layer, and go back into the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = block(3, 8), nn.Conv2d(8, 12, 1, bias=False)
        self.norm, self.mixed, self.out = nn.LayerNorm(12), nn.Linear(12, 24), nn.Linear(24, 12)
        self.back, self.last = block(12, 8, 1), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.inner(x)
        n, c, h, w = y.shape
        y = y.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
        y = y.reshape(n, c, (h // 2) * (w // 2), 4).transpose(1, 3).reshape(n * 4, -1, c)
        y = y + self.out(F.gelu(self.mixed(self.norm(y))))
        y = y.view(n, 4, -1, c).transpose(1, 3).reshape(n * c * (h // 2), w // 2, 2, 2)
        y = y.transpose(1, 2).reshape(n, c, h, w)
        return self.last(torch.cat([x, self.back(y)], 1))


class Latents(Net):
    """Perceiver: learned latents read the input by cross-attention, twice with the same weights."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.rand(4, 16))
        self.embed, self.query = nn.Linear(12, 14), nn.Linear(16, 8)
        self.key, self.value, self.out = nn.Linear(14, 8), nn.Linear(14, 10), nn.Linear(10, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        z = self.latents.expand(len(x), -1, -1)
        for _ in range(2):
            weights = (self.query(z) @ self.key(x).mT * 0.3).softmax(-1)
            z = z + self.out(weights @ self.value(x))
        return self.head(z.mean(1))


class RotaryPairs(Net):
    """Rotary positions on neighbouring channels, through complex numbers."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(12, 16)
        self.out, self.head = nn.Linear(16, 8), nn.Linear(8, CLASSES)

    def turned(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        angles = torch.arange(x.shape[-2])[:, None] * 0.5 ** torch.arange(pairs.shape[-1])
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles).to(x.device)).flatten(
            -2
        )

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (p(x).view(n, t, 2, -1).transpose(1, 2) for p in (self.query, self.key, self.value))
        x = (self.turned(q) @ self.turned(k).mT * 0.3).softmax(-1) @ v
        return self.head(F.relu(self.out(x.transpose(1, 2).reshape(n, t, -1))).mean(1))


class BiasOfHeads(Net):
    """ALiBi: every head subtracts its own multiple of the distance, and has a learned temperature."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mixed, self.out = nn.Linear(12, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125, 0.0625]).view(4, 1, 1))
        self.temperature, self.head = nn.Parameter(torch.rand(4, 1, 1)), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, _ = x.shape
        q, k, v = self.mixed(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        at = torch.arange(t, device=x.device)
        near = (at[:, None] - at).abs() * self.slopes
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature - near).softmax(-1)
        return self.head((x + self.out((weights @ v).transpose(1, 2).reshape(n, t, -1))).mean(1))


class NarrowSqueeze(Imaged):
    """Squeeze and excitation through a single value."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = block(3, 8), nn.Conv2d(8, 1, 1), nn.Conv2d(1, 8, 1)
        self.last = block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.last(x * gate)


class ScaledWeights(Imaged):
    """A convolution whose kernels are normalised and scaled, in the net's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = block(3, 8), nn.Conv2d(8, 10, 3, padding=1)
        self.gain, self.last = nn.Parameter(torch.rand(10, 1, 1, 1)), block(10, 16)

    def features(self, x: Tensor) -> Tensor:
        weight = self.inner.weight
        weight = self.gain * weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self.last(F.relu(F.conv2d(self.stem(x), weight, self.inner.bias, padding=1)))


class TiedDecoder(Net):
    """An autoencoder that decodes by the transposed weights; what it made again is classified."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.code = nn.Linear(12, 16), nn.Linear(16, 10)
        self.shift, self.head = nn.Parameter(torch.rand(16)), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        code = F.relu(self.code(x))
        return self.head(F.relu(F.linear(code, self.code.weight.t(), self.shift)))


class GatedUnit(Net):
    """A gated recurrent unit by hand: three gates of one layer, a state that starts at zero."""

    shape = (5, 12)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inputs, self.state = nn.Linear(12, 10), nn.Linear(10, 24), nn.Linear(8, 24)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.state.in_features)
        for step in F.relu(self.stem(x)).unbind(1):
            r, z, n = self.inputs(step).chunk(3, -1)
            hr, hz, hn = self.state(h).chunk(3, -1)
            z = torch.sigmoid(z + hz)
            h = (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * h
        return self.head(h)


class GatedHead(Net):
    """torch's own GRU behind convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 6)
        self.unit, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.unit(x)[0][:, -1])


class PooledPyramid(Net):
    """Spatial pyramid pooling: means over grids of three sizes are flattened and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 6)
        self.hidden, self.head = nn.Linear(6 * 21, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stem(x))
        found = [F.adaptive_avg_pool2d(x, size).flatten(1) for size in (1, 2, 4)]
        return self.head(F.relu(self.hidden(torch.cat(found, 1))))


class Coordinates(Imaged):
    """CoordConv: two maps of coordinates are put before the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(10, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).expand(n, 1, h, w)
        return self.last(torch.cat([rows, columns, x], 1))


class BufferedScale(Imaged):
    """Every channel is scaled and shifted by buffers, as frozen batch norms are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), block(8, 16)
        self.register_buffer("scale", torch.rand(1, 8, 1, 1))
        self.register_buffer("mean", torch.rand(8))

    def features(self, x: Tensor) -> Tensor:
        return self.last(F.relu((self.stem(x) - self.mean[:, None, None]) * self.scale))


class GatedShortcut(Imaged):
    """A branch enters by a learned gate that starts at zero, and another by one gate a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(3, 8), block(8, 8), block(8, 8)
        self.gate, self.gates = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(8))
        self.last = block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.gate.tanh() * self.one(x)
        return self.last(x + self.gates.tanh().view(1, -1, 1, 1) * self.two(x))


class DroppedDepth(Imaged):
    """Stochastic depth: in training a branch is dropped for some inputs; dropout of whole maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(3, 8), block(8, 8), block(8, 8)
        self.drop, self.last = nn.Dropout2d(0.3), block(8, 16)

    def survive(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full((len(x), 1, 1, 1), 0.7, device=x.device)) / 0.7

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in (self.one, self.two):
            x = x + self.survive(part(x))
        return self.last(self.drop(x))


class OnlyWhileTraining(Imaged):
    """A layer that only training runs: an auxiliary projection of what two others give."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.aid, self.last = (
            block(3, 8),
            block(8, 10),
            nn.Conv2d(8, 10, 1),
            block(10, 16),
        )

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.inner(x)
        return self.last(y + 0.1 * self.aid(x) if self.training else y)


class TwoTowers(Net):
    """A siamese net: both halves of the input go through one tower; differences and products are classified."""

    shape = (2, 12)

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
        self.hidden, self.head = nn.Linear(16, 10), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.tower(x[:, 0]), self.tower(x[:, 1])
        return self.head(F.relu(self.hidden(torch.cat([(a - b).abs(), a * b], -1))))


class Prototypes(Net):
    """Classes are rows of a table; features are compared with them by their cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 12)
        self.table = nn.Parameter(torch.rand(CLASSES, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = pooled(self.last(self.stem(x)))
        return F.normalize(x, dim=1) @ F.normalize(self.table, dim=1).t() * 5


class Recombined(Imaged):
    """Split attention: two radix branches of one grouped convolution are weighed by a softmax between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.radix = block(3, 8), nn.Conv2d(8, 16, 3, padding=1, groups=2)
        self.squeeze, self.choose, self.last = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 16, 1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.radix(self.stem(x))).unflatten(1, (2, -1))
        weights = self.choose(F.relu(self.squeeze(x.sum(1).mean((2, 3), keepdim=True))))
        return self.last((x * weights.unflatten(1, (2, -1)).softmax(1)).sum(1))


class Delta(Net):
    """Time is shifted for a quarter of the channels each way, and the rest stay, before a linear layer."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mixed, self.head = nn.Linear(12, 16), nn.Linear(16, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.embed(x))
        fold = x.shape[-1] // 4
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return self.head(F.relu(self.mixed(out)).mean(1))


class Frozen(Imaged):
    """A fixed blur of every channel by a buffer, as anti-aliased nets have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)
        self.register_buffer("blur", torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        kernel = self.blur.expand(x.shape[1], 1, 3, 3)
        return self.last(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1]))


WILD = (
    PyramidHeads, GroupsShuffled, PoolingBranches, PaddedTransition, Cropped, PatchesToTokens, Latents, RotaryPairs,
    BiasOfHeads, NarrowSqueeze, ScaledWeights, TiedDecoder, GatedUnit, GatedHead, PooledPyramid, Coordinates,
    BufferedScale, GatedShortcut, DroppedDepth, OnlyWhileTraining, TwoTowers, Prototypes, Recombined, Delta, Frozen,
)  # fmt: skip
