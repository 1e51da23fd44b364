from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.models.lenet5 import Lenet5, Lenet5Config


def test_it_is_caffes_net_with_a_relu_behind_every_layer() -> None:
    torch.manual_seed(0)
    net = Lenet5(Lenet5Config()).build(TensorSpec((1, 28, 28)), 10)
    # counted in Louizos et al. 2018 and Molchanov et al. 2017
    assert sum(value.numel() for value in net.parameters()) == 431_080
    w1, b1, w2, b2, w3, b3, w4, b4 = net.parameters()
    x = torch.randn(4, 1, 28, 28)
    h = F.max_pool2d(F.relu(F.conv2d(x, w1, b1)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, w2, b2)), 2)
    assert h.shape == (4, 50, 4, 4)
    torch.testing.assert_close(net(x), F.relu(h.flatten(1) @ w3.T + b3) @ w4.T + b4)


def test_narrower_and_checkpoint_options() -> None:
    narrower = Lenet5(Lenet5Config()).with_width(0.25)
    assert (narrower.convolutions, narrower.hidden) == ((5, 13), 125)
    assert parse(Lenet5Config, dump(narrower)) == narrower


@pytest.mark.parametrize("size", [(16, 16), (17, 40)])
def test_other_sizes_run(size: tuple[int, int]) -> None:
    net = Lenet5(Lenet5Config(convolutions=(2, 3), hidden=4)).build(TensorSpec((3, *size)), 5)
    assert net(torch.zeros(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize(("shape", "words"), [((1, 15, 28), "16 x 16"), ((784,), "needs images")])
def test_inputs_that_it_cannot_take_are_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(CompressitError, match=words):
        Lenet5(Lenet5Config()).build(TensorSpec(shape), 10)
