"""Small nets that are awkward to prune: channels move, meet, repeat, or are written into the code.

Each is one way in which a tool that follows shapes alone takes the wrong channels; `zoo` has the judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import CLASSES, Kept, Net, block, norm_of, pooled
from zoo_peers import ChunkTwo, Imaged, moved


class PaddedShortcut(Imaged):
    """A CIFAR ResNet's option A: zero channels on both sides of the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = block(3, 8), block(8, 16, stride=2)
        self.outer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.last = block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.last(F.relu(self.outer(self.inner(x)) + short))


class PaddedBehind(Imaged):
    """Zero channels by concatenation behind the shortcut, as PyramidNet has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = block(3, 8), block(8, 12), block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        zeros = torch.zeros(x.shape[0], 4, x.shape[2], x.shape[3])
        return self.last(self.inner(x) + torch.cat([x, zeros], 1))


class ChannelsLastFlattened(Net):
    """Height, width and channels are flattened in this order, as in nets ported from TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = block(3, 8), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.conv(x), 2)
        return self.head(x.permute(0, 2, 3, 1).flatten(1))


class TokensFlattened(Net):
    """Tokens by channels are flattened into a linear layer."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(12, 8), nn.Linear(8, 10), nn.Linear(60, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.mix(F.gelu(self.embed(x)))).reshape(len(x), -1))


class Shifted(Imaged):
    """TSM's shift: some channels move along rows, the rest stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle = block(3, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        moved = torch.zeros_like(x)
        moved[:, :2, 1:] = x[:, :2, :-1]
        moved[:, 2:4, :-1] = x[:, 2:4, 1:]
        moved[:, 4:] = x[:, 4:]
        return self.middle(moved)


class Stacked(Imaged):
    """Two layers are stacked in a new dimension, then flattened: their channels alternate."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = block(3, 4), block(3, 4), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(torch.stack([self.one(x), self.two(x)], 2).flatten(1, 2))


class StackedAndWeighed(Imaged):
    """Selective kernels: two layers are stacked, and a softmax over the two weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = block(3, 8), block(3, 8, 5), block(8, 16)
        self.gate = nn.Linear(8, 16)

    def features(self, x: Tensor) -> Tensor:
        both = torch.stack([self.one(x), self.two(x)], 1)
        gate = self.gate(pooled(both.sum(1))).view(-1, 2, 8).softmax(1)
        return self.last((both * gate[..., None, None]).sum(1))


class CrossStage(Imaged):
    """YOLO's C2f: halves of a layer, and what is made of the last, all concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.inner, self.last = (
            block(3, 8),
            block(8, 16, 1),
            block(8, 8),
            block(24, 16, 1),
        )

    def features(self, x: Tensor) -> Tensor:
        parts = list(self.first(self.stem(x)).chunk(2, 1))
        parts.append(self.inner(parts[-1]))
        return self.last(torch.cat(parts, 1))


class UnequalSplit(Imaged):
    """Parts of unequal size go to two layers; their sizes are numbers in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = block(3, 16), block(10, 8), block(6, 8)

    def features(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).split([10, 6], 1)
        return torch.cat([self.left(one), self.right(two)], 1)


class SplitBySlices(ChunkTwo):
    """Halves as slices: the second starts where half of the channels end."""

    def parts(self, x: Tensor) -> Sequence[Tensor]:
        return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


class EverySecond(ChunkTwo):
    """Even channels go to one layer, odd ones to another."""

    def parts(self, x: Tensor) -> Sequence[Tensor]:
        return x[:, ::2], x[:, 1::2]


class PartlyConvolved(Imaged):
    """FasterNet: a convolution of the first quarter of the channels, the others pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = block(3, 16), nn.Conv2d(4, 4, 3, padding=1), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).split([4, 12], 1)
        return self.last(torch.cat([self.part(one), two], 1))


class Chosen(Imaged):
    """Channels are chosen by a buffer of indices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)
        self.register_buffer("order", torch.tensor([3, 1, 7, 0, 5, 2, 6, 4]))

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x).index_select(1, self.order))


class SeparateHeads(Net):
    """Attention with separate layers; the width of a head is read from the tensor."""

    shape = (6, 12)
    fixed = False

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(12, 16), nn.Linear(16, CLASSES)
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, _ = x.shape
        size = (n, t, -1, 8) if self.fixed else (n, t, 2, -1)
        q, k, v = (part(x).view(size).transpose(1, 2) for part in (self.query, self.key, self.value))
        x = x + self.out(((q @ k.mT * 0.3).softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1))
        return self.head(x.mean(1))


class SeparateHeadsOfEight(SeparateHeads):
    """The number of heads is read from the tensor, as transformers has it."""

    fixed = True


class SeparateScaled(SeparateHeads):
    """torch's scaled dot product divides by the root of what is left of a head."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, _ = x.shape
        q, k, v = (part(x).view(n, t, 2, -1).transpose(1, 2) for part in (self.query, self.key, self.value))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        for value in (self.query.weight, self.query.bias):
            value *= (16 / len(kept("query.weight", 0))) ** 0.5
        return self(x)


class GroupedQueries(Net):
    """Four heads of queries share two of keys and values."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.query, self.out = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.key, self.value, self.head = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, _ = x.shape
        q = self.query(x).view(n, t, 4, -1).transpose(1, 2)
        k, v = (part(x).view(n, t, 2, -1).transpose(1, 2) for part in (self.key, self.value))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        x = x + self.out(((q @ k.mT * 0.3).softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1))
        return self.head(x.mean(1))


class ThreeInOne(Net):
    """GPT-2: one layer for query, key and value, split in three, then viewed as heads."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mixed, self.out = nn.Linear(12, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, CLASSES)

    def heads(self, x: Tensor, width: int) -> Iterable[Tensor]:
        return (p.unflatten(2, (2, width // 2)).transpose(1, 2) for p in x.split(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, c = x.shape
        q, k, v = self.heads(self.mixed(x), c)
        x = x + self.out(((q @ k.mT * 0.3).softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1))
        return self.head(x.mean(1))


class HeadsInnermost(ThreeInOne):
    """One qkv layer whose rows are ordered by head, then query, key and value, as GPT-NeoX has it."""

    def heads(self, x: Tensor, width: int) -> Iterable[Tensor]:
        return x.unflatten(2, (2, -1)).transpose(1, 2).chunk(3, -1)


class Rotary(Net):
    """Rotary positions: the halves of every head are paired by tables of sines and cosines."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(12, 16)
        self.out, self.head = nn.Linear(16, 8), nn.Linear(8, CLASSES)
        angles = torch.arange(6)[:, None] * 0.5 ** torch.arange(4)
        self.register_buffer("angles", torch.cat([angles, angles], 1), persistent=False)

    def turned(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return x * self.angles.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * self.angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (p(x).view(n, t, 2, -1).transpose(1, 2) for p in (self.query, self.key, self.value))
        x = (self.turned(q) @ self.turned(k).mT * 0.3).softmax(-1) @ v
        return self.head(self.out(x.transpose(1, 2).reshape(n, t, -1)).mean(1))


class Experts(Net):
    """One of two layers, by the input."""

    shape = (16,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.easy, self.hard = nn.Linear(16, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x, mean = F.relu(self.stem(x)), x.mean()
        return self.head(F.relu(self.easy(x) if mean < 0.7 else self.hard(x)))


class RoutedExperts(Net):
    """A mixture of experts: each token goes to the best of three by a mask."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router = nn.Linear(12, 8), nn.Linear(8, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)) for _ in range(3)
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        best, out = self.router(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if (chosen := best == number).any():
                out[chosen] = expert(x[chosen])
        return self.head((x + out).mean(1))


class EarlyExit(Net):
    """The last block runs only where the first classifier is not sure."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.more = block(3, 8), block(8, 8)
        self.first, self.head = nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        early = self.first(pooled(x))
        return early if early.softmax(1).max() > 0.6 else self.head(pooled(self.more(x)))


class Gated(Net):
    """GLU over the halves of a layer."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.glu, self.head = nn.Linear(12, 16), nn.GLU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.glu(self.stem(x)))


class GatedSiLU(Net):
    """SwiGLU with two layers."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gate, self.up = nn.Linear(12, 8), nn.Linear(8, 16), nn.Linear(8, 16)
        self.down, self.head = nn.Linear(16, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.down(F.silu(self.gate(x)) * self.up(x))).mean(1))


class GatedInOne(Net):
    """SwiGLU with gate and value in one layer."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.both, self.down = nn.Linear(12, 8), nn.Linear(8, 24), nn.Linear(12, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.both(self.embed(x)).chunk(2, -1)
        return self.head(self.down(F.silu(gate) * up).mean(1))


class DepthwiseMultiplied(Imaged):
    """A depthwise convolution gives two channels for each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise, self.last = block(3, 8), block(8, 16, groups=8), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.depthwise(self.stem(x)))


class GroupedUnequal(Imaged):
    """A grouped convolution with more outputs than inputs, and one with three groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.two, self.three = block(3, 8), block(8, 12, groups=2), block(12, 18, groups=3)
        self.last = block(18, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.three(self.two(self.stem(x))))


class GroupedResidual(Imaged):
    """Two numbers of groups meet in one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.two, self.three = block(3, 12), block(12, 12, groups=2), block(12, 12, groups=3)
        self.last = block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x + self.two(x) + self.three(x))


class DepthwiseTransposed(Imaged):
    """A depthwise transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = block(3, 8), nn.ConvTranspose2d(8, 8, 2, 2, groups=8)
        self.last = block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.stem(x)))


class TiedEmbedding(Net):
    """Tokens' table is the classifier's weight as well."""

    shape = (6,)

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(CLASSES, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, CLASSES, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.table((x.abs() * 2).long().clamp(max=CLASSES - 1))
        return self.head((x + F.gelu(self.mix(x))).mean(1))


class Embedded(Net):
    """Tokens and positions from tables, added and normed."""

    shape = (6,)

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(9, 12), nn.Embedding(6, 12)
        self.norm, self.mix, self.head = nn.LayerNorm(12), nn.Linear(12, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table((x.abs() * 3).long().clamp(max=8)) + self.places(torch.arange(6))
        return self.head(F.gelu(self.mix(self.norm(x))).mean(1))


class BothTied(Net):
    """One parameter in two layers that stand side by side."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(8, CLASSES)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.one(x)) + F.relu(self.two(-x)))


class NamedTwice(Net):
    """One module under two names."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.again, self.middle = self.first, nn.Linear(16, 12)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.again(F.relu(self.middle(F.relu(self.first(x)))))))


class Rearranged(Imaged):
    """Windows as einops makes them: view, permute, flatten; a linear layer on each; and back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.last = block(3, 8), nn.Linear(8, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        x = F.gelu(self.mix(x)).view(n, h // 4, w // 4, 4, 4, -1)
        return self.last(x.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, h, w))


class PatchMerging(Net):
    """Swin's merging: four neighbours are concatenated, normed, and reduced."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.reduce = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(32), nn.Linear(32, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.head(F.relu(self.reduce(self.norm(torch.cat(parts, -1)))).mean((1, 2)))


class Unfolded(Imaged):
    """Patches by F.unfold, multiplied by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.linear = block(3, 8), nn.Linear(72, 16)

    def features(self, x: Tensor) -> Tensor:
        x = F.unfold(self.stem(x), 3, padding=1).transpose(1, 2)
        return F.relu(self.linear(x)).transpose(1, 2).unflatten(2, (8, 8))


class OwnNorms(Net):
    """A root-mean-square norm with a scale, and F.layer_norm with the net's own parameters."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(12, 8), nn.Linear(8, 16), nn.Linear(16, CLASSES)
        self.scale, self.gain, self.shift = (nn.Parameter(torch.ones(w)) for w in (8, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.mix(x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * self.scale)
        return self.head(F.layer_norm(x, (x.shape[-1],), self.gain, self.shift).mean(1))

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        x, at = self.embed(x), kept("scale", 0)
        x = self.mix(x * (x[..., at].pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * self.scale)
        at = kept("gain", 0)
        return self.head(norm_of(x.mT, at, 1, 1e-5, self.gain, self.shift, rows=True).mean(-1))


class Recurrent(Net):
    """An LSTM between linear layers."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Linear(12, 8), nn.LSTM(8, 12, batch_first=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0][:, -1])


class OwnRecurrent(Net):
    """A recurrent layer written by hand: the state has the width of two layers."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.state, self.head = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), self.state.in_features)
        for step in x.unbind(1):
            state = torch.tanh(self.inner(step) + self.state(state))
        return self.head(state)


class WeightSlices(Imaged):
    """A slimmable layer: its weight's first rows and columns are used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = block(3, 8), nn.Conv2d(12, 24, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return F.relu(F.conv2d(x, self.wide.weight[:16, : x.shape[1]], self.wide.bias[:16], padding=1))


class OwnParameters(Imaged):
    """F.conv2d with parameters of the net itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.kernel, self.shift = nn.Parameter(torch.rand(16, 8, 3, 3)), nn.Parameter(torch.zeros(16))

    def features(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(self.stem(x), self.kernel, self.shift, padding=1))


class OwnMatrix(Net):
    """A matrix of the net itself between two linear layers."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.matrix, self.head = (
            nn.Linear(12, 8),
            nn.Parameter(torch.rand(8, 10)),
            nn.Linear(10, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.relu(self.stem(x)) @ self.matrix))


class Summed(Net):
    """torch.einsum between layers, and with a parameter of the net."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(12, 8), nn.Linear(12, 8)
        self.mixing, self.head = nn.Parameter(torch.rand(8, 10)), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.einsum("ntc,ntc->ntc", self.left(x), self.right(x).sigmoid())
        return self.head(torch.einsum("ntc,cd->nd", both, self.mixing))


class Maxout(Imaged):
    """The larger of two neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x).unflatten(1, (-1, 2)).amax(2))


class MaxFeatureMap(Imaged):
    """The larger of the halves of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(torch.max(*self.stem(x).chunk(2, 1)))


class SoftmaxOverChannels(Imaged):
    """A softmax over channels in the middle of the net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x).softmax(1))

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        at, x = kept("stem.weight", 0), self.stem(x)
        soft = torch.zeros_like(x).index_copy(1, torch.tensor(at), x[:, at].softmax(1))
        return self.head(pooled(self.last(soft)))


class Standardised(Imaged):
    """Buffers with an entry for each channel, and a constant that is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)
        self.register_buffer("offset", torch.rand(8, 1, 1))
        self.register_buffer("spread", torch.rand(1, 8, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        return self.last((self.stem(x) - self.offset) * self.spread)


class Constant(Imaged):
    """A tensor that is no buffer multiplies every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(8, 16)
        self.factors = torch.linspace(0.5, 2, 8).view(8, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x) * self.factors)


class OneChannelGate(Imaged):
    """A map of one channel multiplies all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.last = block(3, 8), nn.Conv2d(8, 1, 1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.gate(x).sigmoid() * x)


class OneValueAdded(Net):
    """A linear layer of one output is added to every feature."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.head = nn.Linear(12, 8), nn.Linear(12, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.stem(x) + self.one(x)))


class Repeated(Imaged):
    """Channels are repeated to the width of another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.last = block(3, 8), block(8, 16), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.wide(x) + x.repeat(1, 2, 1, 1))


class Bilinear(Net):
    """nn.Bilinear of two layers, and the outer product of two others."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 6), nn.Linear(12, 4)
        self.pair, self.outer = nn.Bilinear(6, 4, 8), nn.Linear(24, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x), self.two(x)
        product = (one.unsqueeze(2) * two.unsqueeze(1)).flatten(1)
        return self.head(F.relu(self.pair(one, two) + self.outer(product)))


class Squashed(Imaged):
    """A spatial size of one makes positions and channels look alike: x.mT, then a linear layer over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.last = block(3, 16), nn.Linear(64, 64), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(F.gelu(self.mix(x.flatten(2))).view_as(x))


class MixedTokens(Net):
    """MLP-Mixer: layers over tokens and over channels, of equal width."""

    shape = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.tokens1, self.tokens2 = nn.Linear(8, 12), nn.Linear(12, 8)
        self.channels1, self.channels2, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.tokens2(F.gelu(self.tokens1(self.norm(x).mT))).mT
        return self.head((x + self.channels2(F.gelu(self.channels1(x)))).mean(1))


class Written(Imaged):
    """One layer's output is written into some channels of another's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = block(3, 12), block(3, 4), block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        whole = self.stem(x).clone()
        whole[:, 2:6] += self.part(x)
        return self.last(whole)


Flipped = moved("Flipped", lambda x: x.flip(1))
Rolled = moved("Rolled", lambda x: torch.roll(x, 3, 1))
Swapped = moved("Swapped", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), 16)
PadChannels = moved("PadChannels", lambda x: F.pad(x, (0, 0, 0, 0, 3, 1), value=0.3))
Dropping = moved("Dropping", lambda x: F.pad(x, (0, 0, 0, 0, -2, 0)))
Interleaved = moved("Interleaved", lambda x: x.repeat_interleave(2, 1))
GroupSums = moved("GroupSums", lambda x: x.view(len(x), 2, x.shape[1] // 2, *x.shape[2:]).sum(1), 16)

AWKWARD = (
    PaddedShortcut, PaddedBehind, ChannelsLastFlattened, TokensFlattened, Flipped, Rolled, Shifted, Stacked,
    StackedAndWeighed, CrossStage, UnequalSplit, SplitBySlices, EverySecond, Swapped, PartlyConvolved, Chosen,
    SeparateHeads, SeparateHeadsOfEight, SeparateScaled, GroupedQueries, HeadsInnermost, ThreeInOne, Rotary, Experts,
    RoutedExperts, EarlyExit, Gated, GatedSiLU, GatedInOne, DepthwiseMultiplied, GroupedUnequal, GroupedResidual,
    DepthwiseTransposed, TiedEmbedding, Embedded, BothTied, NamedTwice, Rearranged, PatchMerging, Unfolded,
    PadChannels, Dropping, OwnNorms, Recurrent, OwnRecurrent, WeightSlices, OwnParameters, OwnMatrix, Summed, Maxout,
    MaxFeatureMap, SoftmaxOverChannels, Standardised, Constant, OneChannelGate, OneValueAdded, Repeated, Interleaved,
    GroupSums, Bilinear, Squashed, MixedTokens, Written,
)  # fmt: skip
