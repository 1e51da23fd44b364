"""What the comparison did not look at is said of each net: no more than it has, and nothing of a plain one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from structured_nets import Plain, built, example
from torch import Tensor, nn
from torch.nn import functional as F

import compressit
from compressit.errors import CompressitError
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.surgery import Given


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 12)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(super().features(x))


class Dropping(Plain):
    """Its own code reads the mode."""

    def features(self, x: Tensor) -> Tensor:
        return F.dropout(super().features(x), 0.5, self.training)


class OnlyEvaluated(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("not for training")
        return super().forward(x)


class Undropped(Plain):
    """A dropout of nothing is the same in both modes."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.0)

    def features(self, x: Tensor) -> Tensor:
        return self.drop(super().features(x))


class Silent(Plain):
    """A layer that nothing runs, of a size that no other has."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(7, 9)


class Logs(Plain):
    """Only its own shift is large enough for a logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(5.0))

    def features(self, x: Tensor) -> Tensor:
        return (super().features(x) + self.shift - 3).log()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.query, self.key, self.value = (nn.Linear(12, 16) for _ in range(3))
        self.out, self.head = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        parts = (self.query, self.key, self.value)
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in parts)
        return self.head(self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1))


def plain_double() -> nn.Module:
    return Plain().double()


def without_batch_norm(net: nn.Module) -> nn.Module:
    """It is another net in train mode."""
    for name, module in list(net.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            setattr(net, name, nn.Identity())
    return net.eval()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Plain, []),
        (Undropped, []),
        (Normed, [("norms", "norm")]),
        (Dropping, [("train mode", "Dropping", "was not compared")]),
        (OnlyEvaluated, [("train mode", "does not run")]),
        (Silent, [("did not run", "spare")]),
        (Logs, [("random",)]),
        (Attention, [("attention", "head")]),
        (plain_double, [("float64",)]),
    ],
)
def test_what_was_not_compared_is_said_and_nothing_else(
    build: Callable[[], nn.Module], words: list[tuple[str, ...]]
) -> None:
    torch.manual_seed(0)
    net = without_batch_norm(build())
    dtype = next(net.parameters()).dtype
    ignore = ["conv2"] if isinstance(net, Logs) else []
    _, report = prune_channels(net, example().to(dtype), 0.5, ignore=ignore, steps=2)
    assert len(report.unchecked) == len(words), report.unchecked
    for line, wanted in zip(report.unchecked, words, strict=True):
        assert all(word in line for word in wanted), line


def test_norms_that_lost_nothing_are_not_named() -> None:
    _, report = prune_channels(without_batch_norm(Normed()), example(), 0.5, ignore=["conv2"])
    assert report.widths == {"conv1": (8, 4)}
    assert report.unchecked == []


def test_the_notes_of_a_stage_say_it() -> None:
    data = compressit.data("data.synthetic", shape=[3, 8, 8], classes=5, train=16, test=8)
    stage = compressit.stage("prune.structured", target="channels", recalibrate=0)
    stage(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 5)), data)
    (line,) = stage.notes["not_checked"]
    assert "train mode" in line
    assert "BatchNorm2d" in line


# A refusal says what `ignore` does for it.


class TiedDecoder(nn.Module):
    """Decodes by the transposed weights of its coder."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.shift, self.head = (
            nn.Linear(192, 10),
            nn.Parameter(torch.rand(192)),
            nn.Linear(192, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(F.relu(self.code(x.flatten(1))), self.code.weight.t(), self.shift))


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("cls", "ignore", "layer", "advice"),
    [
        (TiedDecoder, [], "'code'", "`ignore` does not help"),
        (Plain, ["conv*"], "", "from `ignore`, such as 'conv1'"),
        (OneLayer, [], "", "every layer is coupled"),
    ],
)
def test_where_nothing_can_be_pruned_the_help_says_whether_ignore_matters(
    cls: type[nn.Module], ignore: list[str], layer: str, advice: str
) -> None:
    with pytest.raises(CompressitError) as caught:
        prune_channels(built(cls), torch.rand(1, 3, 8, 8), 0.5, ignore=ignore)
    assert layer in caught.value.message
    assert advice in caught.value.hint
    assert "prune.magnitude" in caught.value.hint


def test_of_shufflenet_the_widths_inside_its_branches_go_and_what_its_shuffles_bind_is_named() -> None:
    import torchvision

    net = torchvision.models.shufflenet_v2_x0_5(num_classes=5).eval()
    _, report = prune_channels(net, torch.zeros(1, 3, 64, 64), 0.5)
    inside = {f"stage{s}.{b}.branch2.0" for s, blocks in ((2, 4), (3, 8), (4, 4)) for b in range(blocks)}
    assert set(report.widths) == inside | {"conv1.0", "conv5.0"}
    assert all(after == before // 2 for before, after in report.widths.values())
    assert "stage2.0.branch1.2" in report.skipped


def test_a_layer_whose_weight_is_given_to_a_function_is_no_layer_that_did_not_run() -> None:
    class Borrowing(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.mean((2, 3)).repeat(1, 2)
            return super().forward(x) + F.linear(rows, self.extra.weight).sum()

    net = built(Borrowing)
    assert not Given.of(net.eval(), example()).silent
    net.unused = nn.Linear(2, 2)
    assert set(Given.of(net, example()).silent) == {"unused"}
