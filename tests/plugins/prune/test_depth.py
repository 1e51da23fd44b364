"""`prune.depth`: which blocks are found and scored, what goes, notes, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

import compressit
from compressit.contract.context import StageContext
from compressit.datasets.splits import Data, InMemory, InputSpec
from compressit.errors import CompressitError, NoEffectError
from compressit.seeds import Streams
from compressit_plugins.prune import blocks as by
from compressit_plugins.prune.blocks import prune_blocks
from compressit_plugins.prune.depth import DepthConfig, DepthPruning
from compressit_plugins.prune.residual import residual_blocks

Context = Callable[..., StageContext]


class Turn(nn.Module):
    """x + tan(angle) * (x turned by 90 degrees): the angle between input and output is known."""

    def __init__(self, angle: float) -> None:
        super().__init__()
        turned = nn.Linear(2, 2, bias=False)
        turned.weight = nn.Parameter(math.tan(angle) * torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        return x + self.turned(x)


class Any2(nn.Module):
    """A module of any function of two values, with a layer to see."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(2, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


class Pair(nn.Module):
    """Two sums: whole as one block, unless each is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x)
        return x + self.two(x)


class Masked(nn.Module):
    """A block that is called with something besides its input."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + torch.relu(x)


class Caller(nn.Module):
    def __init__(self, block: nn.Module, times: int = 1, **given: Any) -> None:
        super().__init__()
        self.block, self.times, self.given = block, times, given

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.block(x, **self.given)
        return torch.sigmoid(x)


def _stack(*angles: float) -> nn.Sequential:
    return nn.Sequential(*map(Turn, angles), nn.Linear(2, 3))


def _found(*modules: nn.Module) -> list[str]:
    net = nn.Sequential(*modules, nn.Linear(2, 3)).eval()
    return residual_blocks(net, torch.ones(1, 2))[0]


@pytest.mark.parametrize(
    ("function", "is_block"),
    [
        (lambda layer, x: x + layer(x), True),
        (lambda layer, x: layer(x).add_(x), True),
        (lambda layer, x: F.relu(layer(F.relu(x)) + x), True),
        (lambda layer, x: F.layer_norm(x + 0.1 * layer(x), (2,)), True),
        (lambda layer, x: layer(x), False),
        (lambda layer, x: layer(x) + layer.bias, False),
        (lambda layer, x: x + layer.bias, False),  # nothing computed from the input
        (lambda layer, x: layer(x + layer(x)), False),  # the sum does not come out
        (lambda layer, x: (y := x.clone()) + layer(y), False),  # not the given tensor itself
        (lambda layer, x: torch.cat([x + layer(x)] * 2)[:1], False),
    ],
)
def test_a_block_gives_the_sum_of_its_input_and_of_what_it_computes(function: Any, is_block: bool) -> None:
    assert _found(Any2(function)) == (["0"] if is_block else [])


def test_of_blocks_in_blocks_the_parts_count_where_there_are_several() -> None:
    assert _found(Pair(), nn.Sequential(Pair())) == ["0", "1"]
    assert _found(nn.Sequential(Pair(), Turn(0.1))) == ["0.0", "0.1"]
    assert _found(nn.Sequential(nn.Sequential(Pair(), Turn(0.1)))) == ["0.0.0", "0.0.1"]


@pytest.mark.parametrize("caller", [Caller(Masked(), mask=None), Caller(Masked(), times=2)])
def test_what_identity_cannot_replace_is_left_with_its_reason(caller: nn.Module) -> None:
    found, reasons = residual_blocks(nn.Sequential(caller, nn.Linear(2, 3)).eval(), torch.ones(1, 2))
    assert found == []
    assert reasons.keys() == {"0.block"}


def test_blocks_of_library_nets_are_those_that_keep_their_shape() -> None:
    from torchvision.models import get_model

    net = get_model("mobilenet_v2", weights=None, num_classes=4).eval()
    blocks = [name for name, module in net.named_modules() if getattr(module, "use_res_connect", False)]
    assert residual_blocks(net, torch.zeros(1, 3, 32, 32))[0] == blocks
    net = get_model("vit_b_32", weights=None, image_size=32, num_classes=4).eval()
    layers = [f"encoder.layers.encoder_layer_{number}" for number in range(12)]
    assert residual_blocks(net, torch.zeros(1, 3, 32, 32))[0] == layers


def test_influence_is_the_angle_that_a_block_turns_by() -> None:
    angles = (0.7, 0.2, 0.5)
    batches = [(torch.randn(5, 2), torch.zeros(5)), (torch.randn(3, 2), torch.zeros(3))]
    scores = by.influence(batches)(_stack(*angles).eval(), ["0", "1", "2"])
    assert list(scores.values()) == pytest.approx([1 - math.cos(angle) for angle in angles], rel=1e-5)


def test_loss_is_what_the_net_without_the_block_gives() -> None:
    net = _stack(0.7, 0.2).eval()
    x, y = torch.randn(16, 2), torch.arange(16) % 3
    scores = by.loss([(x, y)], F.cross_entropy)(net, ["0", "1"])
    with torch.no_grad():
        whole = F.cross_entropy(net(x), y)
        naive = [
            F.cross_entropy(nn.Sequential(net[1], net[2])(x), y),
            F.cross_entropy(nn.Sequential(net[0], net[2])(x), y),
        ]
    assert list(scores.values()) == pytest.approx([float(value - whole) for value in naive], abs=1e-6)


def _given(*scores: float) -> by.Score:
    return lambda model, blocks: dict(zip(blocks, scores, strict=True))


def test_the_lowest_scores_go_and_the_rest_computes_the_same() -> None:
    net = _stack(0.7, 0.2, 0.5)
    kept, x = (net[0], net[3]), torch.randn(4, 2)
    report = prune_blocks(net, torch.zeros(1, 2), _given(3, 1, 2), count=2)
    assert report.gone == {"1": 1, "2": 2}
    assert report.left == {"0": 3}
    assert torch.equal(net(x), kept[1](kept[0](x)))
    assert net.training
    assert report.parameters_kept == pytest.approx((4 + 9) / (12 + 9))
    assert report.macs_kept == pytest.approx((4 + 6) / (12 + 6))


@pytest.mark.parametrize(("keep", "gone"), [(14 / 18, 1), (0.75, 2), (0.5, 3)])
def test_as_few_blocks_go_as_the_target_needs(keep: float, gone: int) -> None:
    report = prune_blocks(_stack(0.1, 0.2, 0.3), torch.zeros(1, 2), _given(1, 2, 3), keep, "macs")
    assert len(report.gone) == gone
    assert report.achieved == report.macs_kept <= keep


def test_what_cannot_be_done_is_refused() -> None:
    def prune(net: nn.Module, *, score: Sequence[float] = (1, 2), **options: Any) -> None:
        prune_blocks(net, torch.zeros(1, 2), _given(*score), **options)

    with pytest.raises(CompressitError, match="2 blocks that can be removed, not 3"):
        prune(_stack(0.1, 0.2), count=3)
    with pytest.raises(CompressitError, match=r"42\.9.% of its macs are left"):
        prune(_stack(0.1, 0.2), keep=0.4)
    with pytest.raises(CompressitError, match="no block"):
        prune(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)))
    with pytest.raises(NoEffectError, match="matches no module"):
        prune(_stack(0.1, 0.2), ignore=["conv*"])
    with pytest.raises(ValidationError, match="no effect with `blocks`"):
        DepthConfig(blocks=2, keep=0.5)


def test_ignored_blocks_stay() -> None:
    report = prune_blocks(_stack(0.1, 0.2), torch.zeros(1, 2), _given(1), count=1, ignore=["0"])
    assert list(report.gone) == ["1"]


def _images() -> Data:
    x, y = torch.rand(24, 3, 32, 32), torch.arange(24) % 4
    split = InMemory(x, y, Streams(0, "train"))
    return Data(split, None, split, 4, InputSpec((3, 32, 32), "unit", None, None, tuple("abcd")))


def test_a_checkpoint_loads_without_the_blocks_and_without_this_code(tmp_path: Path) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    data, net = _images(), get_model("mobilenet_v3_small", weights=None, num_classes=4)
    pruned = compressit.stage(
        "prune.depth", blocks=2, importance="loss", batches=1, batch_size=12, recalibrate=2
    )
    small = pruned(net, data)
    gone = list(pruned.notes["removed"])
    assert [type(small.get_submodule(name)) for name in gone] == [nn.Identity, nn.Identity]
    before = compressit.macs(net, torch.zeros(1, 3, 32, 32))
    after = compressit.macs(small, torch.zeros(1, 3, 32, 32))
    assert after < before
    assert pruned.notes["macs_kept"] == pytest.approx(after / before)
    assert pruned.notes["recalibrated"] == 2
    small.eval()
    compressit.save(
        small,
        tmp_path / "small.safetensors",
        uses="model.torchvision",
        inputs=(3, 32, 32),
        name="mobilenet_v3_small",
    )
    loaded = compressit.load(tmp_path / "small.safetensors")
    x = data.test.x
    assert torch.equal(loaded(x), small(x))
    assert isinstance(loaded.get_submodule(gone[0]), nn.Identity)


def test_a_dry_run_tells_what_training_could_not_mend_and_rounds_remove_more(make_context: Context) -> None:
    ctx = make_context(data=_images())
    with pytest.raises(CompressitError, match="no block"):
        DepthPruning(DepthConfig()).dry_run(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)), ctx)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2), _stack(0.1, 0.2, 0.3)[:3], nn.Linear(2, 4))
    plugin = DepthPruning(DepthConfig(blocks=1, recalibrate=0, batches=1))
    assert plugin.dry_run(net, ctx) is None
    second = make_context(data=_images(), round=2, feed="original")
    plugin.compress(net, second)
    assert list(second.notes["removed"]) == ["2.0", "2.1"]  # the two smallest angles
    assert plugin.alternatives()["random"].importance == "random"
