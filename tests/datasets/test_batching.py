from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressit.contract.compute import Compute
from compressit.datasets.batching import batch_count, batch_sizes
from compressit.datasets.splits import in_batches


@given(st.integers(0, 300), st.integers(1, 50))
def test_batches_hold_every_example_once_and_none_alone(count: int, size: int) -> None:
    sizes = batch_sizes(count, size)
    assert len(sizes) == batch_count(count, size)
    assert torch.equal(
        torch.cat([*in_batches(torch.arange(count), size), torch.arange(0)]), torch.arange(count)
    )
    plain = [len(part) for part in torch.arange(count).split(size)] if count else []
    if size == 1 or count % size != 1 or count == 1:
        assert sizes == plain  # as torch splits: nothing else moved
    else:
        assert sizes == [*plain[:-2], size + 1]


def test_a_net_that_normalises_by_its_batch_is_measured_whatever_the_number_of_examples() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    assert Compute().forward(net, torch.randn(9, 3), batch_size=4).shape == (9, 4)
