"""Networks of papers, as plain torch modules with the layers' names of the code that is usually shared."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from compressit import CompressitError
from compressit_plugins.models.nets import image_shape

_VGG_CONVOLUTIONS = {
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}  # of each block: columns D and E of their table 1


def lenet5(
    input_shape: Sequence[int], classes: int, convolutions: tuple[int, int], hidden: int
) -> nn.Sequential:
    """Maps images (N, C, H, W) to logits (N, classes): conv1, relu1, pool1, conv2, relu2, pool2, flatten, linear1,
    relu3, output; 5 x 5 convolutions without padding; torch's default initialisation.

    Raises CompressitError for inputs that are no images, or of less than 16 pixels a side.
    """
    channels, height, width = image_shape("model.lenet5", input_shape)
    _at_least(16, "model.lenet5", height, width)
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(pairwise((channels, *convolutions)), start=1):
        layers[f"conv{number}"] = nn.Conv2d(before, after, kernel_size=5)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["linear1"] = nn.Linear(convolutions[1] * rows * columns, hidden)
    layers["relu3"] = nn.ReLU()
    layers["output"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)


def vgg(input_shape: Sequence[int], classes: int, depth: int, width: int) -> nn.Sequential:
    """Maps images (N, C, H, W) to logits (N, classes).

    Five blocks of 3 x 3 convolutions without biases, batch norm and ReLU, each with 2 x 2 max pooling behind it; then
    global average pooling and one linear layer. Torch's default initialisation.
    Raises CompressitError for inputs that are no images, or of less than 32 pixels a side.
    """
    inputs, height, columns = image_shape("model.vgg_cifar", input_shape)
    _at_least(32, "model.vgg_cifar", height, columns)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, (times, count) in enumerate(
        zip((1, 2, 4, 8, 8), _VGG_CONVOLUTIONS[depth], strict=True), start=1
    ):
        for number in range(1, count + 1):
            layers[f"conv{block}_{number}"] = nn.Conv2d(inputs, times * width, 3, padding=1, bias=False)
            layers[f"norm{block}_{number}"] = nn.BatchNorm2d(times * width)
            layers[f"relu{block}_{number}"] = nn.ReLU()
            inputs = times * width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


class CifarBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut without parameters around them (He et al. 2016, option A):
    every `stride`-th pixel, and zeros for the channels that it lacks, half of them before and half behind."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        before = (outputs - inputs) // 2
        self.stride, self.zeros = stride, (before, outputs - inputs - before)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.zeros))
        return F.relu(y + x)


class CifarResnet(nn.Module):
    """Maps images (N, C, H, W) to logits (N, classes): a convolution, three stages of `blocks` blocks, global average
    pooling and a linear layer. The stages have `width`, 2 and 4 times as many channels. Weights start from He's
    initialisation (2015).

    Raises CompressitError for inputs that are no images.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, blocks: int, width: int) -> None:
        super().__init__()
        channels, _, _ = image_shape("model.cifar_resnet", input_shape)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """The first block has the stride."""
    first = CifarBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(CifarBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _at_least(pixels: int, name: str, height: int, width: int) -> None:
    if min(height, width) < pixels:
        raise CompressitError(
            f"{name} takes images of {pixels} x {pixels} pixels or more, not {height} x {width}",
            "use model.convnet, which takes images of any size",
        )
