"""Small nets with the shapes that the test suites of Torch-Pruning, NNI and NNCF are about, written anew.

Each is one way of wiring layers; `zoo` has the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import CLASSES, Kept, Net, block, norm_of, pooled


class Imaged(Net):
    """Features of 16 channels, their means, a linear classifier."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.head = nn.Linear(width, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(pooled(self.features(x)))


def moved(name: str, moves: Callable[[Tensor], Tensor], made: int = 8) -> type[Imaged]:
    """A net that does `moves` with the `made` channels of one layer, before another reads them."""

    def init(self: Any) -> None:
        Imaged.__init__(self)
        self.stem = block(3, made)
        self.last = block(moves(torch.zeros(1, made, 8, 8)).shape[1], 16)

    features = {"features": lambda self, x: self.last(moves(self.stem(x)))}
    return type(name, (Imaged,), {"__init__": init, "__module__": __name__} | features)


class LeNet(Net):
    """Convolutions, pooling, view, three linear layers."""

    shape = (1, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 12, 3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(48, 24), nn.Linear(24, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.shape[0], -1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class FullyConnectedSkip(Net):
    """An MLP with a skip."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        return self.fc3(F.relu(self.fc2(x)) + x)


class WideAndDeep(Net):
    """A deep and a wide path are concatenated before the last layer."""

    shape = (4, 8)

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 8)
        )
        self.wide, self.last = nn.Linear(32, 6), nn.Linear(14, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1)
        return torch.sigmoid(self.last(torch.concat([self.wide(x), self.deep(x)], dim=-1)))


class CascadedConcat(Imaged):
    """Concatenations of concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = block(3, 4), block(3, 6), block(3, 8)
        self.last = block(18, 16, 1)

    def features(self, x: Tensor) -> Tensor:
        both = torch.cat([self.one(x), self.two(x)], 1)
        return self.last(torch.cat([both, self.three(x)], 1))


class SplitToThree(Imaged):
    """Unequal parts of one layer go to layers of their own, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.wide = block(3, 16), block(4, 8, 1), block(8, 8, 1)

    def features(self, x: Tensor) -> Tensor:
        one, two, three = torch.split(self.stem(x), [4, 4, 8], dim=1)
        return torch.cat([self.twice(one) + self.twice(two), self.wide(three)], 1)


class ConcatThenSplit(Imaged):
    """One part of a layer is concatenated with another layer, the other is added later."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.side, self.both = block(3, 16), block(3, 8), block(16, 8, 1)

    def features(self, x: Tensor) -> Tensor:
        first, second = torch.split(self.stem(x), (8, 8), 1)
        return self.both(torch.cat([first, self.side(x)], 1)) + second


class OwnNorm(Net):
    """A layer of one's own: divided by the norm over features, scaled and shifted."""

    shape = (12,)

    class Layer(nn.Module):
        """Scale and shift of what has norm one."""

        def __init__(self) -> None:
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))
            self.inner = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-6)
            return self.inner(x * self.scale + self.shift)

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.own, self.fc2 = nn.Linear(12, 16), self.Layer(), nn.Linear(16, CLASSES)
        self.unused = nn.Parameter(torch.rand(10))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.own(F.relu(self.fc1(x))))


class SeveralOutputs(Net):
    """Two classifiers in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = block(3, 8), block(8, 8), block(8, 12)
        self.head1, self.head2 = nn.Linear(8, CLASSES), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.head1(pooled(self.left(x))), self.head2(pooled(self.right(x)))


class SpatialConcat(Imaged):
    """Concatenated and split along rows, not channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = block(3, 8), block(3, 8)
        self.conv1, self.conv2 = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 16, 1)

    def features(self, x: Tensor) -> Tensor:
        one, two = self.left(x), self.right(x)
        both = self.conv1(torch.cat([one, two], dim=2))
        first, _ = torch.split(both, [one.shape[2], two.shape[2]], dim=2)
        return F.relu(self.conv2(first))


class Generator(Net):
    """A linear layer, viewed as an image, transposed convolutions, flattened."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 32)
        self.up1, self.up2 = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ConvTranspose2d(6, 4, 4, 2, 1)
        self.last = nn.Linear(256, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.linear(x)).view(-1, self.up1.in_channels, 2, 2)
        return self.last(torch.flatten(F.relu(self.up2(F.relu(self.up1(x)))), 1))


class Transposed(Imaged):
    """Transposed convolution between two convolutions, with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.up, self.norm2 = nn.ConvTranspose2d(8, 12, 2, 2), nn.BatchNorm2d(12)
        self.conv3 = block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.norm2(self.up(F.relu(self.norm1(self.conv1(x)))))))


class GroupedTransposed(Imaged):
    """A transposed convolution of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = block(3, 8), nn.ConvTranspose2d(8, 12, 2, 2, groups=2)
        self.last = block(12, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.up(self.stem(x))))


class OneChannelMap(Net):
    """A map of one channel is the output of the convolutions; a linear layer reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = block(3, 8), block(8, 12)
        self.conv3, self.norm3 = nn.Conv2d(12, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.last = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.softplus(self.norm3(self.conv3(self.conv2(self.conv1(x))))).flatten(1))


class UnusedLayer(Imaged):
    """A layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.unused = block(3, 8), block(8, 16), nn.Conv2d(8, 8, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x))


class LayerScale(Imaged):
    """ConvNeXt's block: depthwise, layer norm over the last dimension, two linear layers, a scale, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 16, 2, 2), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.scale = nn.Parameter(torch.ones(16, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.scale * self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)


class Basic(Imaged):
    """ResNet's basic blocks, the second with a 1 x 1 shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.in1, self.out1 = block(3, 8), block(8, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.in2, self.out2 = block(8, 16, stride=2), nn.Conv2d(16, 16, 3, padding=1)
        self.short = nn.Conv2d(8, 16, 1, 2)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.out1(self.in1(x)))
        return F.relu(self.short(x) + self.out2(self.in2(x)))


class Bottleneck(Imaged):
    """ResNeXt's bottleneck: a grouped convolution between two 1 x 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.middle = block(3, 16), block(16, 8, 1), block(8, 8, groups=4)
        self.expand = nn.Conv2d(8, 16, 1)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return F.relu(x + self.expand(self.middle(self.reduce(x))))


class Inverted(Imaged):
    """MobileNet's inverted residual with squeeze and excitation by linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.depthwise = block(3, 16), block(16, 24, 1), block(24, 24, groups=24)
        self.squeeze, self.excite = nn.Linear(24, 6), nn.Linear(6, 24)
        self.project = nn.Sequential(nn.Conv2d(24, 16, 1, bias=False), nn.BatchNorm2d(16))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled(y)))))
        return x + self.project(y * gate[:, :, None, None])


class SqueezeExcite(Imaged):
    """Squeeze and excitation by 1 x 1 convolutions and a hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduce, self.expand = block(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.last = block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return self.last(F.hardsigmoid(gate) * x)


class DenseNet(Imaged):
    """Every layer reads all before it; norms stand before convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(12), nn.Conv2d(12, 4, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], 1)
        return F.relu(self.norm3(x))


class Inception(Imaged):
    """Four branches of different depth, concatenated."""

    def __init__(self) -> None:
        super().__init__(18)
        self.stem, self.one = block(3, 8), block(8, 4, 1)
        self.two = nn.Sequential(block(8, 6, 1), block(6, 6))
        self.three, self.four = nn.Sequential(block(8, 2, 1), block(2, 4, 5)), block(8, 4, 1)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pool = F.max_pool2d(x, 3, 1, 1)
        return torch.cat([self.one(x), self.two(x), self.three(x), self.four(pool)], 1)


class UNet(Net):
    """Down, up by transposed convolution, concatenated with what was there; a map of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = block(3, 8), block(8, 16)
        self.up, self.join = nn.ConvTranspose2d(16, 8, 2, 2), block(16, 8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.up(self.down2(F.max_pool2d(one, 2)))
        return self.head(self.join(torch.cat([one, two], 1))).mean((2, 3))


class FeaturePyramid(Net):
    """Lateral convolutions, interpolated and added; one head for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = block(3, 8), block(8, 12, stride=2), block(12, 16, stride=2)
        self.lateral1, self.lateral2, self.lateral3 = (nn.Conv2d(w, 8, 1) for w in (8, 12, 16))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        top = self.lateral3(self.three(two))
        middle = self.lateral2(two) + F.interpolate(top, scale_factor=2)
        bottom = self.lateral1(one) + F.interpolate(middle, size=one.shape[2:], mode="bilinear")
        return sum(self.head(pooled(F.relu(level))) for level in (top, middle, bottom))


class HighResolution(Imaged):
    """HRNet: two resolutions exchange their features by addition."""

    def __init__(self) -> None:
        super().__init__()
        self.high, self.low = block(3, 8), block(3, 16, stride=2)
        self.down, self.up = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 8, 1)
        self.last1, self.last2 = block(8, 16), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        high, low = self.high(x), self.low(x)
        mixed = high + F.interpolate(self.up(low), scale_factor=2), low + self.down(high)
        return F.avg_pool2d(self.last1(F.relu(mixed[0])), 2) + self.last2(F.relu(mixed[1]))


class ElementwiseWays(Imaged):
    """Two layers are added, subtracted, multiplied; the larger is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = block(3, 8), block(3, 8), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.one(x), self.two(x)
        return self.last(torch.maximum((a + b) * (a - b), a * 0.5))


class SharedConvolution(Imaged):
    """One convolution is called twice on its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.last = block(3, 8), nn.Conv2d(8, 8, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.shared(F.relu(self.shared(self.stem(x))))))


class SharedOnTwo(Imaged):
    """One convolution is called on the outputs of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.shared = block(3, 8), block(3, 8), block(8, 8)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([self.shared(self.one(x)), self.shared(self.two(x))], 1)


class ShuffleUnit(Imaged):
    """ShuffleNet v2: halves by chunk, one passes, then the channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 16)
        self.branch = nn.Sequential(block(8, 8, 1), block(8, 8, groups=8), block(8, 8, 1))

    def features(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).chunk(2, 1)
        x = torch.cat([one, self.branch(two)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleFirst(Imaged):
    """ShuffleNet v1: grouped, shuffled, grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = block(3, 8), block(8, 12, 1, groups=2), block(12, 16, groups=2)

    def features(self, x: Tensor) -> Tensor:
        x = self.one(self.stem(x))
        n, c, h, w = x.shape
        return self.two(x.reshape(n, 2, c // 2, h, w).permute(0, 2, 1, 3, 4).flatten(1, 2))


class ChunkTwo(Imaged):
    """The halves of one layer go to two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = block(3, 16), block(8, 8), block(8, 8)

    def parts(self, x: Tensor) -> Sequence[Tensor]:
        return x.chunk(2, 1)

    def features(self, x: Tensor) -> Tensor:
        one, two = self.parts(self.stem(x))
        return torch.cat([self.left(one), self.right(two)], 1)


class GroupNormed(Imaged):
    """Group norm with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.conv2, self.norm2 = nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(2, 16)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class InstanceNormed(Imaged):
    """Instance norms, with weights and without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True)
        self.conv2, self.norm2 = nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16)
        self.last = block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))))


class Parametric(Imaged):
    """PReLU with a slope for each channel, and with one for all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.slope1 = nn.Conv2d(3, 8, 3), nn.PReLU(8)
        self.conv2, self.slope2 = nn.Conv2d(8, 16, 3), nn.PReLU()

    def features(self, x: Tensor) -> Tensor:
        return self.slope2(self.conv2(self.slope1(self.conv1(x))))


class Flattened(Net):
    """Positions and channels are flattened into a linear layer, with a batch norm behind the flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = block(3, 8), nn.AdaptiveAvgPool2d(2)
        self.norm, self.fc1, self.fc2 = nn.BatchNorm1d(32), nn.Linear(32, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(self.norm(torch.flatten(self.pool(self.conv(x)), 1)))))


class ConcatFlattened(Net):
    """Two flattened branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = block(3, 4, stride=2), block(3, 6, stride=4)
        self.fc1, self.fc2 = nn.Linear(88, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.one(x).flatten(1), self.two(x).view(x.shape[0], -1)], 1)
        return self.fc2(F.relu(self.fc1(both)))


class ConcatNormed(Imaged):
    """A batch norm over concatenated layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.one(x), self.two(x)], 1)))


class ConcatAdded(Imaged):
    """A concatenation is added to one wider layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.whole = block(3, 6), block(3, 10), block(3, 16)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x)], 1) + self.whole(x)


class Padded(Imaged):
    """Positions are padded by a constant and by reflection, as layers and as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.conv1 = nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(self.pad(x)))
        return F.relu(self.conv2(F.pad(x, (1, 1, 1, 1), value=0.5)))


class OneDimensional(Net):
    """Convolutions over a sequence, with a mean over time."""

    shape = (4, 16)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8)
        self.conv2, self.head = nn.Conv1d(8, 12, 3, dilation=2), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv2(F.relu(self.norm1(self.conv1(x))))).mean(-1))


class ThreeDimensional(Net):
    """Convolutions over volumes."""

    shape = (2, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8)
        self.conv2, self.head = nn.Conv3d(8, 12, 3), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv2(F.relu(self.norm1(self.conv1(x))))).flatten(2).mean(2))


class MultiHead(Net):
    """torch's own multi-head attention among tokens."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(12, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down, self.head = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


class ClassToken(Net):
    """A vision transformer's token and positions, and one qkv layer as timm has it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.rand(1, 1, 16))
        self.positions, self.norm = nn.Parameter(torch.rand(1, 5, 16)), nn.LayerNorm(16)
        self.attention, self.head = QKV(16, 2), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head((x + self.attention(self.norm(x)))[:, 0])

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        self.attention.rescale(kept("attention.qkv.weight", 0))
        return self(x)


class QKV(nn.Module):
    """Queries, keys and values of all heads in one layer; scores are divided by the root of the width of a head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, t, -1))

    def rescale(self, kept: list[int]) -> None:
        """In place: queries for the width that is left of a head."""
        width = len(self.qkv.weight) // 3
        self.qkv.weight[:width] *= (3 * width / len(kept)) ** 0.5
        self.qkv.bias[:width] *= (3 * width / len(kept)) ** 0.5


class MatrixProduct(Net):
    """Features are multiplied with each other over their channels, and over tokens."""

    shape = (6, 12)

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.value = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 10)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        map_ = torch.bmm(self.left(x), self.right(x).transpose(1, 2)).sigmoid()
        return self.head(torch.matmul(map_, self.value(x)).mean(1))


class BroadcastLinear(Net):
    """A vector for each input is broadcast over positions and added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.vector = block(3, 8), nn.Linear(192, 8)
        self.last, self.head = block(8, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        vector = self.vector(x.flatten(1)).unsqueeze(-1).unsqueeze(-1)
        return self.head(pooled(self.last(self.conv(x) + vector.expand(-1, -1, 8, 8))))


class MeanAcrossChannels(Imaged):
    """CBAM's spatial gate: mean and maximum over channels become a map that multiplies them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.last = block(3, 8), nn.Conv2d(2, 1, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.last(x * self.gate(both).sigmoid())

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        at = kept("stem.0.weight", 0)
        x = self.stem(x)
        both = torch.cat([x[:, at].mean(1, keepdim=True), x[:, at].amax(1, keepdim=True)], 1)
        return self.head(pooled(self.last(x * self.gate(both).sigmoid())))


class FunctionalGroupNorm(Imaged):
    """F.group_norm, which holds no weights to tell the width from."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), block(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(F.relu(F.group_norm(self.conv(x), 4)))

    def alive(self, x: Tensor, kept: Kept) -> Tensor:
        x = norm_of(self.conv(x), kept("conv.weight", 0), 4, 1e-5)
        return self.head(pooled(self.last(F.relu(x))))


class ShuffledPixels(Imaged):
    """Four channels become the pixels of one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.last = block(3, 16), nn.PixelShuffle(2), block(4, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.stem(x)))


class PixelsToChannels(Imaged):
    """A space-to-depth stem in the middle of the net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.last = block(3, 4), nn.PixelUnshuffle(2), block(16, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.down(self.stem(x)))


SplitAndAdd = moved("SplitAndAdd", lambda x: sum(torch.split(x, 8, 1)), 16)

PEERS = (
    LeNet, FullyConnectedSkip, WideAndDeep, CascadedConcat, SplitToThree, ConcatThenSplit, OwnNorm, SeveralOutputs,
    SpatialConcat, Generator, Transposed, GroupedTransposed, OneChannelMap, UnusedLayer, LayerScale, Basic, Bottleneck,
    Inverted, SqueezeExcite, DenseNet, Inception, UNet, FeaturePyramid, HighResolution, ElementwiseWays,
    SharedConvolution, SharedOnTwo, ShuffleUnit, ShuffleFirst, ChunkTwo, SplitAndAdd, GroupNormed, InstanceNormed,
    Parametric, Flattened, ConcatFlattened, ConcatNormed, ConcatAdded, Padded, OneDimensional, ThreeDimensional,
    MultiHead, ClassToken, MatrixProduct, BroadcastLinear, MeanAcrossChannels, FunctionalGroupNorm, ShuffledPixels,
    PixelsToChannels,
)  # fmt: skip
