"""Channels that meet in ways of their own: stacked branches, pooled statistics, learned gates, encoder layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from zoo import CLASSES, Net, block, judged, lively
from zoo_peers import Imaged

from compressit_plugins.prune.channels import prune_channels


class StackedBranches(Imaged):
    """Branches that are stacked and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), block(12, 16)
        self.branches = nn.ModuleList(block(8, 12) for _ in range(3))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(torch.stack([branch(x) for branch in self.branches]).sum(0))


class PooledStatistics(Net):
    """The mean and the deviation over time, one behind the other (x-vectors)."""

    shape = (6, 20)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(6, 16, 3), nn.Conv1d(16, 24, 3)
        self.head = nn.Linear(72, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.first(x).relu()).relu()
        return self.head(torch.cat([y.mean(2), y.std(2), y.max(2)[0]], 1))


class LearnedGates(Imaged):
    """Two branches, weighed by numbers that are learned (BiFPN)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.last = block(3, 8), block(8, 12), block(8, 12), block(12, 16)
        self.weights = nn.Parameter(torch.tensor([0.3, 0.9]))

    def features(self, x: Tensor) -> Tensor:
        x, gates = self.stem(x), self.weights.softmax(0)
        return self.last(gates[0] * self.one(x) + gates[1] * self.two(x))


class Encoded(Net):
    """Torch's own encoder layers, the batch first."""

    shape = (6, 10)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(10, 32), nn.Linear(32, CLASSES)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class ClassMaskedOut(Net):
    """One class may never be the answer."""

    shape = (20,)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(20, 32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        never = torch.arange(CLASSES) == CLASSES - 1
        return self.head(self.inner(x).relu()).masked_fill(never, -torch.inf)


NETS = [
    (StackedBranches, "branches.0.0"), (PooledStatistics, "last"), (LearnedGates, "one.0"),
    (Encoded, "embed"), (ClassMaskedOut, "inner"),
]  # fmt: skip


@pytest.fixture
def layer_by_layer() -> Iterator[None]:
    """The judge's norms stand in for those of an encoder layer: torch must call them."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize(("cls", "layer"), NETS, ids=lambda value: getattr(value, "__name__", None))
def test_what_meets_is_pruned_together(cls: type[Net], layer: str, layer_by_layer: None) -> None:
    """The given net without the removed channels, and the layer where they meet is among the narrower ones."""
    if cls is not ClassMaskedOut:  # the judge takes differences, and inf - inf is none
        verdict = judged(lively(cls()), cls.shape)
        assert verdict.result == "equal", verdict
    net = cls().eval()
    wide = net.get_submodule(layer).weight.shape[0]
    pruned, report = prune_channels(net, torch.zeros(1, *cls.shape), 0.5)
    assert pruned.get_submodule(layer).weight.shape[0] <= wide * 0.6
    assert report.gap is not None
    assert report.gap < 1e-5
