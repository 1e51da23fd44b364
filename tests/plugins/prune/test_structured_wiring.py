"""Where channels go, followed through a forward pass: against what the operations do to plain numbers, and against
Torch-Pruning's groups where those are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scipy.sparse
import torch
import torchvision
from structured_nets import Concat, Grouped, Plain, Residual, Squeeze, built, example, images
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.classification import Classification, ClassificationConfig
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit_plugins.prune import coupling
from compressit_plugins.prune.channel_flow import wiring
from compressit_plugins.prune.channel_groups import components
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.coupling import Group, coupled
from compressit_plugins.prune.importance import checked_loss, magnitude, taylor


class Between(nn.Module):
    """Something between a layer of 12 channels and a linear layer."""

    def __init__(self, moves: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.moves = moves
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.last = nn.Linear(moves(torch.zeros(1, 12, 8, 8)).shape[-1], 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.moves(self.first(x)))


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": lambda x: x[:, :, :2, :2].flatten(1),
    "channels last": lambda x: x[:, :, :2, :2].permute(0, 2, 3, 1).flatten(1),
    "flip": lambda x: x.flip(1).mean((2, 3)),
    "roll": lambda x: x.roll(5, 1).mean((2, 3)),
    "shuffle": lambda x: F.channel_shuffle(x, 3).mean((2, 3)),
    "stack": lambda x: torch.stack([x, -x], 2).flatten(1, 2).mean((2, 3)),
    "swapped halves": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1).mean((2, 3)),
    "every third": lambda x: x[:, 1::3].mean((2, 3)),
    "twice": lambda x: torch.cat([x, x], 1).amax((2, 3)),
    "pixels": lambda x: F.pixel_shuffle(x, 2).flatten(1),
    "split": lambda x: torch.cat([x.split([2, 7, 3], 1)[i] for i in (2, 0, 1)], 1).mean((2, 3)),
    "picked": lambda x: x.index_select(1, torch.tensor([7, 3, 3, 0])).mean((2, 3)),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_channel_is_where_its_number_is(name: str) -> None:
    moves = MOVES[name]
    found = wiring(Between(moves).eval(), example())
    made, read = found.sides["first", "out"], found.sides["last", "in"]
    numbers = torch.arange(1.0, 13).view(1, 12, 1, 1).expand(1, 12, 8, 8)
    wanted = moves(numbers)[0].abs().long() - 1  # every value is its channel
    assert torch.equal(read, made[wanted])
    assert made.unique().numel() == 12
    assert not found.tainted


def test_padding_in_space_keeps_the_channel() -> None:
    found = wiring(Between(lambda x: F.pad(x, (1, 2, 0, 1)).amax((2, 3))).eval(), example())
    assert torch.equal(found.sides["first", "out"], found.sides["last", "in"])
    assert not set(found.sides["first", "out"].tolist()) & found.fixed


def test_a_layer_whose_weight_is_given_to_a_function_is_followed_like_one_that_is_called() -> None:
    class Borrowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Conv2d(3, 12, 3), nn.Linear(12, 16), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = F.conv2d(x, self.first.weight, self.first.bias).mean((2, 3))
            return self.last(F.linear(x, weight=self.middle.weight, bias=self.middle.bias).relu())

    found = wiring(Borrowing().eval(), example())
    assert torch.equal(found.sides["first", "out"], found.sides["middle", "in"])
    assert torch.equal(found.sides["middle", "out"], found.sides["last", "in"])
    assert not found.tainted
    _, report = prune_channels(Borrowing().eval(), example(), 0.5)
    assert report.widths == {"first": (12, 6), "middle": (16, 8)}


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "densenet121", "resnet18"])
def test_the_components_are_those_of_the_graph_of_layers_and_classes(name: str) -> None:
    """Against scipy's connected components: layers are joined where they make a channel of the same class."""
    net = torchvision.models.get_model(name, num_classes=5, weights=None).eval()
    found = wiring(net, torch.zeros(1, 3, 64, 64))
    out = set(found.fixed) | {0}
    made = [set(numbers.tolist()) - out for (_, side), numbers in found.sides.items() if side != "in"]
    size = max(map(max, filter(None, made))) + 1
    graph = scipy.sparse.lil_matrix((size, size))
    for classes in made:
        for number in classes:
            graph[min(classes), number] = 1
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    used = set[int]().union(*made)
    wanted = {frozenset(n for n in used if labels[n] == label) for label in {labels[n] for n in used}}
    assert {frozenset(root_of) for root_of in components(found, frozenset())} == wanted


def test_added_channels_are_one_class_and_padding_stays() -> None:
    class Padded(Between):
        def __init__(self) -> None:
            super().__init__(lambda x: F.pad(x[:, :8], (0, 0, 0, 0, 1, 3)).mean((2, 3)))
            self.second = nn.Conv2d(3, 12, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.moves(self.first(x)) + self.second(x).mean((2, 3)))

    found = wiring(Padded().eval(), example())
    assert torch.equal(found.sides["first", "out"][:8], found.sides["second", "out"][1:9])
    padded = set(found.sides["second", "out"][[0, 9, 10, 11]].tolist())
    assert padded <= found.fixed
    assert not set(found.sides["first", "out"].tolist()) & found.fixed


def test_what_is_not_understood_taints_what_goes_in() -> None:
    found = wiring(Between(lambda x: torch.linalg.svdvals(x.mean(3)).flatten(1)).eval(), example())
    assert set(found.sides["first", "out"].tolist()) <= set(found.tainted)


def places(groups: list[Group]) -> set[frozenset[tuple[str, int]]]:
    """What goes together: names and positions, side by side, of every root channel."""
    return {
        frozenset(
            (m.name, int(c)) for m in g.members for c, r in zip(m.channels, m.roots, strict=True) if r == root
        )
        for g in groups
        for root in range(g.width)
    }


@pytest.mark.parametrize("cls", [Plain, Residual, Concat, Grouped, Squeeze])
def test_both_ways_lead_to_the_same_groups(cls: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    def groups() -> list[Group]:
        return coupled(net, example(), magnitude(net), (), 60)[0]

    def fails(*args: Any) -> Any:
        raise ZeroDivisionError

    net = built(cls).eval()
    given = groups()
    monkeypatch.setattr(coupling.Trace, "of", fails)
    own = groups()
    assert places(own) == places(given)
    assert {g.parts for g in own} == {g.parts for g in given}
    for group in given:
        scores = next(g.scores for g in own if places([g]) == places([group]))
        assert group.scores is not None
        assert scores is not None
        torch.testing.assert_close(scores.sort().values, group.scores.sort().values)


def test_taylor_refuses_outputs_that_are_no_logits_of_the_task() -> None:
    class Maps(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return self.features(x)

    targets = torch.arange(4) % 5
    task = Classification(ClassificationConfig(), TaskSpec("task.classification", 5))
    importance = taylor([(images(4), targets)], checked_loss(task, targets))
    with pytest.raises(CompressitError, match=r"taylor.*task\.classification.*\(4, 12, 8, 8\)"):
        prune_channels(built(Maps), example(), 0.5, importance=importance)
    prune_channels(built(Plain), example(), 0.5, importance=importance)


def test_a_net_that_remembers_its_last_pass_is_pruned_and_can_be_copied() -> None:
    import copy

    class Remembers(Plain):
        def features(self, x: Tensor) -> Tensor:
            self.seen = super().features(x)
            return self.seen

    net = built(Remembers)
    prune_channels(net, example(), 0.5)
    copy.deepcopy(net)
