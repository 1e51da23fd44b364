"""`prune.structured` as a stage: targets, what is left of the function, notes, rounds, dry runs, checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from structured_nets import (
    Concat,
    Constant,
    Grouped,
    Plain,
    Residual,
    Squeeze,
    Transformer,
    built,
    example,
    images,
)
from torch import Tensor, nn

from compressit.checkpoint.model import load, save
from compressit.config import parse
from compressit.contract.context import StageContext
from compressit.contract.kinds import Compressor
from compressit.contract.measure import macs, parameters
from compressit.datasets.splits import Data, InMemory, InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.running.apply import apply_plugin
from compressit.seeds import Streams
from compressit_plugins.prune.batch_norm import recalibrate
from compressit_plugins.prune.channels import prune_channels
from compressit_plugins.prune.coupling import coupled
from compressit_plugins.prune.importance import fpgm, lamp, magnitude
from compressit_plugins.prune.structured import StructuredConfig, StructuredPruning

NETS = [Plain, Residual, Concat, Grouped, Squeeze, Transformer]
Context = Callable[..., StageContext]


def plugin(**options: Any) -> StructuredPruning:
    return StructuredPruning(
        parse(StructuredConfig, {"recalibrate": 2, "batch_size": 16, "batches": 2} | options)
    )


@pytest.fixture
def context(make_context: Context) -> Context:
    """A context on 48 images (3, 8, 8) of 5 classes."""
    split = InMemory(images(48), torch.arange(48) % 5, Streams(0, "train"))
    data = Data(split, None, split, 5, InputSpec((3, 8, 8), "unit", None, None, tuple("abcde")))
    return lambda **fields: make_context(data=data, **fields)


@pytest.mark.parametrize("target", ["parameters", "macs"])
@pytest.mark.parametrize("keep", [0.75, 0.4])
def test_a_target_is_reached_within_two_percent_by_independent_counts(
    context: Context, target: str, keep: float
) -> None:
    net = Plain(64, 96)
    before = {"parameters": parameters(net), "macs": macs(net, (3, 8, 8))}
    ctx = context()
    small = apply_plugin(plugin(target=target, keep=keep), net, ctx)
    after = {"parameters": parameters(small), "macs": macs(small, (3, 8, 8))}
    assert after[target] / before[target] == pytest.approx(keep, rel=0.02)
    assert ctx.notes["target"] == target
    assert ctx.notes["requested"] == keep
    assert ctx.notes["achieved"] == after[target] / before[target]
    assert ctx.notes["parameters_kept"] == after["parameters"] / before["parameters"]
    assert ctx.notes["macs_kept"] == after["macs"] / before["macs"]
    assert ctx.notes["widths"] == {
        "conv1": [64, small.conv1.out_channels],
        "conv2": [96, small.conv2.out_channels],
    }


@pytest.mark.parametrize("cls", [Plain, Residual, Concat, Grouped, Squeeze])
def test_channels_that_contribute_nothing_go_and_the_function_stays(cls: type[nn.Module]) -> None:
    net = built(cls).eval()
    with (
        torch.no_grad()
    ):  # every second channel of each half: a grouped convolution loses alike in its groups
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[::2], module.bias[::2] = 0, 0
    scores = lambda model: lambda group: torch.tensor([i % 2 for i in range(len(group[0].idxs))]).float()  # noqa: E731
    x = images()
    wanted = net(x)
    prune_channels(net, example(), 0.5, importance=scores)
    assert parameters(net) < 0.6 * parameters(cls())
    torch.testing.assert_close(net(x), wanted)


@pytest.mark.parametrize("cls", NETS)
def test_every_width_is_halved_and_a_checkpoint_brings_the_model_back(
    cls: type[nn.Module], tmp_path: Path
) -> None:
    net, report = prune_channels(built(cls), example(), 0.5)
    assert all(after * 2 in (before, before + 1, before - 1) for before, after in report.widths.values()), (
        report
    )
    assert not report.skipped
    loss = net(images()).sum()
    loss.backward()  # it trains on
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors", into=copy.deepcopy(cls()))
    assert torch.equal(again(images()), net.eval()(images()))


def test_a_vision_transformer_keeps_its_heads_and_its_sizes_follow(tmp_path: Path) -> None:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    net = VisionTransformer(8, 4, 2, 3, 12, 16, num_classes=5)
    prune_channels(net, example(), 0.6)
    assert net.hidden_dim == net.class_token.shape[2] == net.encoder.pos_embedding.shape[2] == 6
    attention = net.encoder.layers[0].self_attention
    assert (attention.num_heads, attention.embed_dim, attention.head_dim) == (3, 6, 2)
    assert net.encoder.layers[1].mlp[0].out_features == 10
    assert net(images()).shape == (4, 5)
    save(net, tmp_path / "vit.safetensors")
    fresh = VisionTransformer(8, 4, 2, 3, 12, 16, num_classes=5)
    assert torch.equal(load(tmp_path / "vit.safetensors", into=fresh)(images()), net.eval()(images()))


def test_importances_rank_as_their_definitions_say() -> None:
    net = built(Plain).eval()
    weights = net.conv2.weight.detach().flatten(1)  # (12, 72)
    head = net.head.weight.detach().view(5, 12, 4)
    norms = weights.square().sum(1) + net.norm2.weight.detach().square() + head.square().sum((0, 2))
    pairwise = torch.cdist(weights.square()[None], weights.square()[None])[0].sum(0)
    assert coupled_scores(net, magnitude, "conv2").argsort().tolist() == norms.argsort().tolist()
    own_only = coupled_scores(net, fpgm, "conv2")
    columns = head.permute(1, 2, 0).reshape(48, 5).square()
    distances = torch.cdist(columns[None], columns[None])[0].sum(0).view(12, 4).sum(1)
    torch.testing.assert_close(own_only, (pairwise + distances) / (pairwise + distances).mean())
    mean = norms / 3
    ordered = mean.sort().values
    wanted = {float(v): float(v / ordered[i:].sum()) for i, v in enumerate(ordered)}
    torch.testing.assert_close(
        coupled_scores(net, lamp, "conv2"),
        torch.tensor([wanted[float(v)] for v in mean]),
        rtol=1e-4,
        atol=1e-6,
    )


def coupled_scores(net: nn.Module, importance: Any, name: str) -> Tensor:
    groups, _ = coupled(net, example(), importance(net), (), 60)
    found = next(group for group in groups if group.name == name).scores
    assert found is not None
    return found


def test_taylor_is_weight_times_gradient_on_the_training_batches(context: Context) -> None:
    net = built(Plain)
    wanted = copy.deepcopy(net).eval()
    for x, y in list(context().data.train.batches(16, 0))[:2]:
        nn.functional.cross_entropy(wanted(x), y).backward()
    saliency = (wanted.conv1.weight * wanted.conv1.weight.grad).abs().sum((1, 2, 3))
    saliency = saliency + (wanted.conv2.weight * wanted.conv2.weight.grad).abs().sum((0, 2, 3))
    kept = saliency.argsort(descending=True)[:4].sort().values
    small = apply_plugin(plugin(target="channels", importance="taylor", recalibrate=0), net, context())
    assert torch.equal(small.norm1.running_var, wanted.norm1.running_var[kept])


def test_bn_scale_keeps_the_large_scales_and_refuses_nets_without(context: Context) -> None:
    net = built(Plain)
    with torch.no_grad():  # the larger the filter, the smaller the scale
        net.conv1.weight.mul_(torch.arange(10, 90, 10).view(8, 1, 1, 1))
        net.norm1.weight.copy_(torch.arange(8, 0, -1))
    wanted = net.norm1.weight.detach()[:4]
    small = apply_plugin(plugin(target="channels", importance="bn_scale"), net, context())
    assert torch.equal(small.norm1.weight, wanted)
    with pytest.raises(CompressitError, match="needs batch norms"):
        apply_plugin(plugin(importance="bn_scale"), built(Transformer), context())


def test_random_differs_by_seed_and_nothing_else(context: Context) -> None:
    def kept(seed: int) -> Tensor:
        ctx = context(streams=Streams(seed, "prune"))
        return apply_plugin(plugin(target="channels", importance="random"), built(Plain), ctx).conv1.weight

    assert torch.equal(kept(1), kept(1))
    assert not torch.equal(kept(1), kept(2))


def test_isomorphic_ranks_across_alike_groups_in_range() -> None:
    class Chain(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(
                *(layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())),
                nn.Conv2d(3, 9, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 5),
            )  # fmt: skip

    net = built(Chain)
    with torch.no_grad():
        net[0].weight.mul_(0.1)  # with it the second's input counts: normalised scores decide
    _, report = prune_channels(net, example(), 0.5, scope="isomorphic")
    chain = [report.widths[str(i)][1] for i in (0, 2, 4)]
    assert sum(chain) in range(3, 8)
    assert net(images()).shape == (4, 5)
    assert report.widths["8"][1] in range(1, 10)


def test_steps_score_anew_and_end_at_the_same_target() -> None:
    calls: list[int] = []

    def importance(model: nn.Module) -> Any:
        calls.append(parameters(model))
        return magnitude(model)

    net = Plain(64, 96)
    _, report = prune_channels(net, example(), 0.5, target="macs", steps=3, importance=importance)
    assert report.achieved == pytest.approx(0.5, rel=0.02)
    assert len(calls) == 3
    assert calls[0] > calls[1] > calls[2]


def test_a_repeated_stage_from_the_original_keeps_less_with_each_rung(context: Context) -> None:
    def notes(number: int, feed: str) -> dict[str, Any]:
        ctx = context(round=number, feed=feed)
        apply_plugin(plugin(keep=0.7, target="parameters"), Plain(64, 96), ctx)
        return ctx.notes

    assert notes(3, "original")["requested"] == pytest.approx(0.7**3)
    assert notes(3, "original")["achieved"] == pytest.approx(0.7**3, rel=0.02)
    assert notes(3, "previous")["requested"] == 0.7


def test_batch_norm_statistics_are_those_of_the_pruned_model(context: Context) -> None:
    ctx = context()
    small = apply_plugin(plugin(target="channels"), built(Plain), ctx)
    batches = [x for x, _ in list(ctx.data.train.batches(16, 1))[:2]]
    maps = [small.conv1(x).detach() for x in batches]
    torch.testing.assert_close(
        small.norm1.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    )
    torch.testing.assert_close(small.norm1.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    assert ctx.notes["recalibrated"] == 2
    assert small.training
    assert small.norm1.momentum == 0.1
    kept = apply_plugin(plugin(target="channels", recalibrate=0), built(Plain), context())
    assert not torch.equal(kept.norm1.running_mean, small.norm1.running_mean)


def test_recalibration_leaves_single_inputs_and_nets_without_batch_norm_alone() -> None:
    net = built(Plain)
    before = net.norm1.running_mean.clone()
    assert recalibrate(net, [images(1)]) == 0
    assert torch.equal(net.norm1.running_mean, before)

    def never() -> Iterator[Tensor]:
        raise AssertionError("read")
        yield

    assert recalibrate(built(Transformer), never()) == 0


def test_a_dry_run_finds_the_widths_without_any_data(context: Context) -> None:
    ctx = context()
    data = ctx.data
    blind = context(load_data=lambda: Data(None, None, None, 5, data.contract))  # type: ignore[arg-type]
    blind_data = blind.load_data()
    blind.load_data = lambda: type("Shapes", (), {"with_streams": lambda self, s: blind_data})()  # pyright: ignore
    tried = plugin(importance="taylor", keep=0.5).dry_run(Plain(64, 96), blind)
    made = apply_plugin(plugin(importance="taylor", keep=0.5), Plain(64, 96), ctx)
    assert tried is not None
    assert {n: v.shape for n, v in tried.state_dict().items()} == {
        n: v.shape for n, v in made.state_dict().items()
    }
    assert plugin(scope="global").dry_run(Plain(64, 96), blind) is None
    with pytest.raises(CompressitError, match="out of reach"):
        plugin(keep=0.4, round_to=40, target="parameters").dry_run(Plain(40, 40), blind)
    with pytest.raises(CompressitError, match=r"conv2.*a forward pass fails"):
        plugin(ignore=["conv1"]).dry_run(built(Constant), blind)


def test_an_error_leaves_the_model_as_it_was() -> None:
    net = built(Constant)
    net.norm1.eval()
    net.conv2.requires_grad_(False)
    before = copy.deepcopy(net)
    with pytest.raises(CompressitError):
        prune_channels(net, example(), 0.5, ignore=["conv1"])
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.state_dict().items())
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in before.parameters()]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": 1.0}, "keep is 1"),
        ({"keep": 0.5, "example": torch.zeros(3)}, "the example is"),
        ({"keep": 0.5, "example": torch.zeros(1, 2, dtype=torch.int64)}, "a forward pass fails in conv1"),
        ({"keep": 0.5, "steps": 0}, "at least 1"),
    ],
)
def test_arguments_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressitError, match=message):
        prune_channels(**({"model": built(Plain), "example": example()} | wrong))


def test_it_is_installed_and_its_example_runs(context: Context) -> None:
    made = installed().create(Compressor, "prune.structured", dict(StructuredPruning.example))
    ctx = context()
    apply_plugin(made, Plain(64, 96), ctx)
    assert ctx.notes["widths"] == {"conv1": [64, 32], "conv2": [96, 48]}
