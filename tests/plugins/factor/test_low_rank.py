"""`factor.low_rank`: what is left of the function, targets, checkpoints without the plugin, other stages behind it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import compressit
from compressit.checkpoint.model import load
from compressit.config import parse
from compressit.contract.context import StageContext
from compressit.contract.factored import Factored
from compressit.contract.kinds import Model
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data, InMemory, InputSpec
from compressit.errors import CompressitError, NoEffectError
from compressit.exporting.export import export
from compressit.host.plugins import Host, installed
from compressit.seeds import Streams
from compressit_plugins.factor.factor import Asked, factor
from compressit_plugins.factor.low_rank import LowRank, LowRankConfig
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.train.scratch import Scratch
from compressit_plugins.train.supervised import Supervised, SupervisedConfig

TRAINING = SupervisedConfig.model_validate({"epochs": 1, "batch_size": 64, "optimizer": {"lr": 0.05}})


class Convolutions(nn.Module):
    """Strides, dilation, padding of both kinds, a group, a batch norm and no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 5, stride=2, padding=2)
        self.plain = nn.Conv2d(12, 16, 3, padding="same", padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 16, (3, 1), dilation=2, padding=(2, 0))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.plain(self.stem(x).relu())).relu()
        return self.head(self.wide(self.depthwise(x)).relu().mean((2, 3)))


def images(count: int, side: int = 12) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def net(kind: Callable[[], nn.Module] = Convolutions) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def asked(keep: float = 0.5, target: Any = "macs", ignore: Any = (), **ranks: int) -> Asked:
    return Asked(target, keep, {name.replace("_", "."): rank for name, rank in ranks.items()}, ignore)


def flops(model: nn.Module, x: Tensor) -> int:
    """MACs as torch's own counter sees them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops() // 2


@pytest.fixture
def context(make_context: Callable[..., StageContext]) -> Callable[..., StageContext]:
    split = InMemory(images(64), torch.arange(64) % 5, Streams(0, "train"))
    data = Data(split, None, split, 5, InputSpec((3, 12, 12), "unit", None, None, tuple("abcde")))
    return lambda **fields: make_context(data=data, **fields)


def low_rank(**options: Any) -> LowRank:
    return LowRank(parse(LowRankConfig, {"recalibrate": 0, "batch_size": 16} | options))


@pytest.mark.parametrize("covariance", [False, True])
def test_with_every_rank_that_the_weights_have_the_function_stays(covariance: bool) -> None:
    model = net().double().eval()
    with torch.no_grad():  # of rank 3 by construction
        for layer in (model.stem, model.plain, model.wide):
            left, values, right = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
            layer.weight.copy_((left[:, :3] * values[:3] @ right[:3]).view_as(layer.weight))
    x = images(8).double()
    before = model(x)
    report = factor(
        model, x[:1], asked(stem=3, plain=3, wide=3, ignore=("head",)), [x] if covariance else None
    )
    assert set(report.ranks) == {"stem", "plain", "wide"}
    assert report.skipped == {"depthwise": "has groups"}
    assert all(isinstance(model.get_submodule(name), Factored) for name in report.ranks)
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-10)


def test_a_linear_layers_error_is_that_of_its_singular_values_that_went() -> None:
    model = nn.Sequential(nn.Linear(40, 30)).double()
    weight, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    factor(model, torch.zeros(1, 40).double(), asked(**{"0": 7}))
    product = model[0][1].weight @ model[0][0].weight
    discarded = np.linalg.svd(weight.numpy(), compute_uv=False)[7:]
    assert float((weight - product).detach().norm()) == pytest.approx(
        math.sqrt((discarded**2).sum()), rel=1e-12
    )
    assert torch.equal(model[0][1].bias, bias)
    torch.testing.assert_close(model[0][0].weight.norm(dim=1), model[0][1].weight.norm(dim=0))


def test_a_convolutions_error_is_that_of_its_matrix() -> None:
    model = nn.Sequential(nn.Conv2d(4, 10, 3, stride=2, padding=1, dilation=2)).double()
    old = copy.deepcopy(model)
    factor(model, torch.zeros(1, 4, 9, 9).double(), asked(**{"0": 5}))
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = old[0].weight.detach().flatten(1).numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    nearest = torch.from_numpy((left[:, :5] * values[:5]) @ right[:5]).view(10, 4, 3, 3)
    expected = nn.functional.conv2d(x, nearest, old[0].bias, stride=2, padding=1, dilation=2)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_with_the_covariance_no_other_product_of_that_rank_answers_the_training_inputs_better() -> None:
    """In least squares the best is what the principal components of the outputs leave, mean apart."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(500, 20, generator=generator).double() * torch.logspace(0, -3, 20).double() + 1
    errors = {}
    for covariance in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 16)).double()
        y = model(x).detach()
        factor(model, x[:1], asked(**{"0": 4}), [x[:250], x[250:]] if covariance else None)
        errors[covariance] = float((model(x).detach() - y).square().sum())
    left = np.linalg.svd((y - y.mean(0)).numpy(), compute_uv=False)[4:]
    assert errors[True] == pytest.approx((left**2).sum(), rel=1e-8)
    assert errors[True] < errors[False] / 2


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_macs_are_at_most_what_was_asked_and_no_rank_more_would_fit(keep: float) -> None:
    model, x = net(), images(1)
    before = flops(model, x)
    report = factor(model, x, asked(keep))
    after = flops(model, x)
    assert after / before == pytest.approx(report.macs_kept) == report.achieved <= keep
    places = {"stem": 36, "plain": 36, "wide": 36, "head": 1}
    for name, (rank, _) in report.ranks.items():
        first, second = model.get_submodule(name)
        unit = places[name] * (first.weight[0].numel() + len(second.weight))
        whole = places[name] * first.weight[0].numel() * len(second.weight)
        assert rank * unit < whole, "it is factored only where that saves"
        assert after + min(unit, whole - rank * unit) > keep * before, "another rank would fit"


def test_parameters_and_energy_as_the_target() -> None:
    model, x = net(), images(1)
    before = sum(p.numel() for p in model.parameters())
    report = factor(model, x, asked(0.6, "parameters"))
    left = sum(p.numel() for p in model.parameters()) / before
    assert 0.55 < left <= 0.6
    assert left == report.achieved
    model = nn.Sequential(nn.Linear(30, 30)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor([3.0, 2.0, 1.0] + [0.0] * 27)))
    report = factor(model, torch.zeros(1, 30).double(), asked(13 / 14 - 1e-9, "energy"), fresh=True)
    assert report.ranks == {"0": (2, 30)}
    assert report.energies == {"0": pytest.approx(13 / 14)}


@pytest.mark.parametrize("uses", ["model.mlp", "model.convnet"])
def test_a_file_of_it_needs_no_plugin(uses: str, tmp_path: Path, lab: Lab) -> None:
    torch.manual_seed(0)
    model = installed().create(Model, uses, {}).build(TensorSpec((1, 8, 8)), 10)
    low_rank(keep=0.4).compress(model, ctx := lab.context(data=lab.data()))
    path = tmp_path / "small.safetensors"
    compressit.save(model.eval(), path, uses=uses, inputs=TensorSpec((1, 8, 8)), outputs=10)
    without = Host(disabled=["factor-low-rank"])
    assert "factor.low_rank" in installed().names("compressor")
    assert "factor.low_rank" not in without.names("compressor")
    again = load(path, host=without)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x), model(x))
    assert len(ctx.notes["ranks"]) == sum(isinstance(m, Factored) for m in again.modules()) > 0


@pytest.mark.extra("onnx")
def test_it_is_exported(tmp_path: Path, lab: Lab) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = installed().create(Model, "model.convnet", {}).build(TensorSpec((1, 8, 8)), 10)
    low_rank(keep=0.4).compress(model, lab.context(data=lab.data())).eval()
    compressit.save(model, tmp_path / "net.safetensors", uses="model.convnet", inputs=(1, 8, 8), outputs=10)
    session = runtime.InferenceSession(export(tmp_path / "net.safetensors", "onnx", host=installed()))
    x = torch.rand(3, 1, 8, 8)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_factored_again_its_products_get_lower_ranks() -> None:
    model, x = net(), images(1)
    first = factor(model, x, asked(0.6))
    before, narrow = flops(model, x), {name: rank for name, (rank, _) in first.ranks.items()}
    second = factor(model, x, asked(0.6))
    assert flops(model, x) <= 0.6 * before
    assert not any(
        isinstance(part, Factored) for m in model.modules() if isinstance(m, Factored) for part in m
    )
    assert all(rank < narrow.get(name, 99) for name, (rank, _) in second.ranks.items())
    once, twice = nn.Sequential(nn.Linear(20, 20)).double(), nn.Sequential(nn.Linear(20, 20)).double()
    twice.load_state_dict(once.state_dict())
    x = torch.rand(4, 20).double()
    factor(once, x[:1], asked(**{"0": 3}))
    factor(twice, x[:1], asked(**{"0": 8}))
    factor(twice, x[:1], asked(**{"0": 3}))
    torch.testing.assert_close(once(x), twice(x), rtol=0, atol=1e-12)  # as if it had been done at once


@pytest.mark.parametrize("stage", [Supervised, Scratch])
def test_it_trains_behind_it(stage: Any, lab: Lab) -> None:
    ctx = lab.context(data=lab.data())
    model = low_rank(keep=0.4).compress(lab.mlp(64), ctx)
    before = copy.deepcopy(model.state_dict())
    trained = stage(TRAINING).train(model, lab.context(data=lab.data()))
    assert any(isinstance(module, Factored) for module in trained.modules())
    assert all(not torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert trained.state_dict().keys() == before.keys()


def test_it_is_pruned_behind_it(context: Callable[..., StageContext]) -> None:
    model, x = net(), images(1)
    factor(model, x, asked(0.6))
    before = flops(model, x)
    prune_channels(model, x, 0.5, target="macs")
    assert flops(model, x) == pytest.approx(0.5 * before, rel=0.02)
    masks = prune_smallest(model, 0.5)
    assert any(".1.weight" in name for name in masks), "weights of the second factors too"


def test_pruned_zeros_are_not_filled(context: Callable[..., StageContext]) -> None:
    model = net()
    prune_smallest(model, 0.5, include=["stem"])
    ctx = context()
    low_rank(keep=0.8).compress(model, ctx)
    assert "zeros" in ctx.notes["skipped"]["stem"]
    prune_smallest(model, 0.5)
    with pytest.raises(NoEffectError, match="zeros"):
        low_rank().compress(model, context())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(20, 20)
        self.two = nn.Linear(20, 20)
        self.two.weight = self.one.weight
        self.twice = nn.Linear(20, 20)
        self.again = self.twice
        self.block = nn.TransformerEncoderLayer(20, 2, 40, batch_first=True)
        self.idle = nn.Linear(20, 20)
        self.free = nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.twice(self.two(self.one(x)))) + self.idle.weight[0]
        return self.free(self.block(x[:, None])[:, 0])


def test_layers_whose_weights_are_used_in_other_ways_stay() -> None:
    model, x = net(Tied).eval(), torch.rand(2, 20)
    report = factor(model, x[:1], asked(0.95))
    assert set(report.ranks) == {"free"}
    assert report.skipped.keys() == {
        "one", "two", "twice", "block.self_attn", "block.self_attn.out_proj", "block.linear1", "block.linear2", "idle",
    }  # fmt: skip
    assert model(x).isfinite().all()


def test_of_torchvisions_transformer_it_factors_the_perceptrons() -> None:
    import torchvision

    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(16, 8, 2, 2, 32, 64, num_classes=5).eval()
    report = factor(vit, x := images(1, 16), asked(0.8))
    assert any(".mlp." in name for name in report.ranks)
    assert vit(x).shape == (1, 5)
    assert "encoder.layers.encoder_layer_0.self_attention" in report.skipped


def test_what_cannot_be_is_said_with_the_numbers(context: Callable[..., StageContext]) -> None:
    with pytest.raises(
        CompressitError, match=r"keep 0\.01 is out of reach: with rank 1 everywhere, 0\.\d+ is left"
    ):
        low_rank(keep=0.01).dry_run(net(), context())
    with pytest.raises(CompressitError, match="rank 12 of stem saves nothing") as caught:
        low_rank(ranks={"stem": 12}).dry_run(net(), context())
    assert "at most 10" in str(caught.value.hint)
    with pytest.raises(NoEffectError, match="'stam' matches no layer"):
        low_rank(ranks={"stam": 2}).dry_run(net(), context())
    with pytest.raises(NoEffectError, match="'stam' matches no layer"):
        low_rank(ignore=["stam"]).dry_run(net(), context())
    with pytest.raises(NoEffectError, match="no layer would be factored"):
        low_rank(keep=0.99999, target="energy").compress(net(), context())
    assert low_rank(keep=0.99999, target="energy").dry_run(net(), context()) is None, (
        "unknown before training"
    )


def test_a_dry_run_gives_the_shapes_where_ranks_decide_them(context: Callable[..., StageContext]) -> None:
    ranks = {"*": 2}
    tried = low_rank(ranks=ranks).dry_run(net(), context())
    assert tried is not None
    done = low_rank(ranks=ranks).compress(net(), ctx := context())
    assert [p.shape for p in tried.parameters()] == [p.shape for p in done.parameters()]
    assert ctx.notes["requested"] == ctx.notes["achieved"]
    assert low_rank().dry_run(net(), context()) is None


def test_statistics_of_batch_norms_are_measured_again(context: Callable[..., StageContext]) -> None:
    model = low_rank(recalibrate=4, keep=0.4).compress(net(), ctx := context())
    assert ctx.notes["recalibrated"] == 4
    with torch.no_grad():
        y = model.eval().plain(model.stem(images(64)).relu())
    torch.testing.assert_close(model.norm.running_mean, y.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_frozen_layers_stay_frozen_and_modes_stay() -> None:
    model = net().train()
    model.stem.requires_grad_(False)
    model.wide.eval()
    factor(model, images(1), asked(stem=2, wide=2, ignore=("plain", "head")))
    assert not any(p.requires_grad for p in model.stem.parameters())
    assert all(p.requires_grad for p in model.wide.parameters())
    assert model.training
    assert not model.wide.training
    assert not model.wide[0].training
    assert model.stem[1].training
