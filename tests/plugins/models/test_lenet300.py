from __future__ import annotations

import torch
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit_plugins.models.lenet300 import Lenet300, Lenet300Config


def test_it_is_the_net_that_pruning_papers_call_so() -> None:
    torch.manual_seed(0)
    net = Lenet300(Lenet300Config()).build(TensorSpec((1, 28, 28)), 10)
    # counted in Louizos et al. 2018 and Molchanov et al. 2017
    assert sum(value.numel() for value in net.parameters()) == 266_610
    w1, b1, w2, b2, w3, b3 = net.parameters()
    x = torch.rand(4, 1, 28, 28)
    h = F.relu(F.relu(x.flatten(1) @ w1.T + b1) @ w2.T + b2)
    torch.testing.assert_close(net(x), h @ w3.T + b3)


def test_narrower_and_checkpoint_options() -> None:
    narrower = Lenet300(Lenet300Config()).with_width(0.125)
    assert narrower.hidden == (38, 13)
    assert parse(Lenet300Config, dump(narrower)) == narrower
