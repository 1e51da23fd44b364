from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.models.vgg_cifar import VggCifar, VggCifarConfig

# as the nets are usually written for CIFAR: channels, and M for pooling
LISTS: dict[int, str] = {
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


@pytest.mark.parametrize(("depth", "millions"), [(16, 14.72), (19, 20.04)])
def test_it_has_the_published_layers(depth: Any, millions: float) -> None:
    with torch.device("meta"):
        net = VggCifar(VggCifarConfig(depth=depth)).build(TensorSpec((3, 32, 32)), 10)
    assert round(sum(value.numel() for value in net.parameters()) / 1e6, 2) == millions
    kinds = {nn.Conv2d: lambda m: str(m.out_channels), nn.MaxPool2d: lambda m: "M"}
    found = [kinds[type(module)](module) for module in net.modules() if type(module) in kinds]
    assert " ".join(found) == LISTS[depth]


def test_it_computes_what_its_description_says() -> None:
    torch.manual_seed(0)
    net = VggCifar(VggCifarConfig(width=2)).build(TensorSpec((3, 40, 32)), 10).eval()
    x = h = torch.randn(2, 3, 40, 32)
    parameters = iter(net.parameters())
    for entry in LISTS[16].split():
        if entry == "M":
            h = F.max_pool2d(h, 2)
        else:
            weight, gain, shift = (next(parameters) for _ in range(3))
            h = F.conv2d(h, weight, padding=1) / (1 + 1e-5) ** 0.5  # fresh batch norm: mean 0, variance 1
            h = F.relu(h * gain.view(-1, 1, 1) + shift.view(-1, 1, 1))
    weight, bias = parameters
    torch.testing.assert_close(net(x), h.mean((2, 3)) @ weight.T + bias)


def test_narrower_and_checkpoint_options() -> None:
    narrower = VggCifar(VggCifarConfig(depth=19)).with_width(0.1)
    assert (narrower.depth, narrower.width) == (19, 7)
    assert parse(VggCifarConfig, dump(narrower)) == narrower


def test_images_that_the_pooling_would_make_nothing_of_are_refused() -> None:
    with pytest.raises(CompressitError, match=r"32 x 32 pixels or more, not 28 x 28(.|\n)*model\.convnet"):
        VggCifar(VggCifarConfig()).build(TensorSpec((1, 28, 28)), 10)
