from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.models.convnet import Convnet, ConvnetConfig


def test_it_computes_what_its_description_says() -> None:
    torch.manual_seed(0)
    model = Convnet(ConvnetConfig(channels=(3, 5))).build(TensorSpec((2, 9, 7)), 4).eval()
    x = torch.randn(6, 2, 9, 7)
    w1, g1, b1, w2, g2, b2, w, b = model.parameters()
    h = x
    for weight, gain, bias in ((w1, g1, b1), (w2, g2, b2)):
        h = F.conv2d(h, weight, padding=1) / (1 + 1e-5) ** 0.5  # fresh batch norm: mean 0, variance 1
        h = F.relu(h * gain.view(-1, 1, 1) + bias.view(-1, 1, 1))
        h = F.max_pool2d(F.pad(h, (0, h.shape[3] % 2, 0, h.shape[2] % 2), value=-1.0), 2)
    assert h.shape == (6, 5, 3, 2)
    torch.testing.assert_close(model(x), h.mean((2, 3)) @ w.T + b)


@pytest.mark.parametrize("size", [1, 3, 28])
def test_more_blocks_than_halvings_still_run(size: int) -> None:
    model = Convnet(ConvnetConfig(channels=(2, 2, 2, 2))).build(TensorSpec((1, size, size)), 3)
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_narrower_and_checkpoint_options() -> None:
    narrower = Convnet(ConvnetConfig(channels=(16, 32, 5))).with_width(0.5)
    assert narrower.channels == (8, 16, 3)
    assert parse(ConvnetConfig, dump(narrower)) == narrower
    built = Convnet(narrower).build(TensorSpec((1, 8, 8)), 10)
    assert [m.out_channels for m in built.modules() if isinstance(m, nn.Conv2d)] == [8, 16, 3]


def test_inputs_that_are_no_images_are_refused_with_advice() -> None:
    with pytest.raises(CompressitError, match=r"\(64,\)(.|\n)*model\.mlp"):
        Convnet(ConvnetConfig()).build(TensorSpec((64,)), 10)
