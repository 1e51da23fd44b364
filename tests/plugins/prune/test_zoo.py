"""Structured pruning on a zoo of nets: equal to the given net without the removed channels, or refused with the layer
and what helps. Never wrong. `benchmarks/oracle.py` counts, and tries torchvision's nets."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zoo import CLASSES, SCOPES, Net, compared, entries, judged, lively, unhelpful
from zoo_attack import ATTACK
from zoo_awkward import AWKWARD, Experts, SoftmaxOverChannels
from zoo_peers import PEERS, Basic, GroupNormed, LayerScale, MultiHead
from zoo_wild import WILD

from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit_plugins.prune.channels import prune_channels

NETS = (*PEERS, *AWKWARD, *ATTACK, *WILD)


@pytest.mark.parametrize("cls", NETS, ids=lambda net: net.__name__)
def test_a_pruned_net_is_the_given_one_without_channels_or_refused(cls: type[Net]) -> None:
    for scope in SCOPES[:1] if cls in PEERS else SCOPES:  # for time; the benchmark tries all in both
        verdict = judged(lively(cls()), cls.shape, scope=scope)
        assert verdict.result in ("equal", "refused"), f"{scope}: {verdict}"


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("model.lenet300", {"hidden": (30, 10)}, (1, 8, 8)),
        ("model.lenet5", {"convolutions": (6, 8), "hidden": 20}, (1, 16, 16)),
        ("model.cifar_resnet", {"depth": 14, "width": 8}, (3, 16, 16)),
        ("model.vgg_cifar", {"width": 4}, (3, 32, 32)),
    ],
)
def test_the_papers_nets_are_pruned(name: str, options: dict[str, object], shape: tuple[int, ...]) -> None:
    kind = installed().find(name, "model").plugin
    net = lively(kind(kind.Config(**options)).build(TensorSpec(shape), CLASSES))
    for scope in SCOPES:
        verdict = judged(net, shape, scope=scope)
        assert verdict.result == "equal", f"{scope}: {verdict}"


# The judge itself: a judge that calls everything equal would prove nothing.


def pruned(cls: type[Net]) -> tuple[nn.Module, nn.Module]:
    net = lively(cls())
    small, _ = prune_channels(copy.deepcopy(net), torch.zeros(1, *cls.shape), 0.5)
    return net, small.eval()


@pytest.mark.parametrize("cls", [Basic, LayerScale, GroupNormed, MultiHead])
def test_the_judge_sees_channels_that_went_to_the_wrong_place(cls: type[Net]) -> None:
    net, small = pruned(cls)
    assert compared(net, small, cls.shape).result == "equal"
    with torch.no_grad():  # two columns of the classifier change places: shapes and values stay
        weight = small.head.weight
        weight[:, [0, 1]] = weight[:, [1, 0]]
    assert compared(net, small, cls.shape).result == "wrong"


@pytest.mark.parametrize("change", [1.001, 0.0])
def test_the_judge_sees_a_value_that_is_not_the_given_nets(change: float) -> None:
    net, small = pruned(Basic)
    with torch.no_grad():
        small.head.weight[2, 3] *= change
    assert compared(net, small, Basic.shape).result == "wrong"


def test_the_judge_sees_an_operation_that_is_gone() -> None:
    net, small = pruned(Basic)
    small.in1[2] = nn.Identity()  # a ReLU: nothing in the state tells of it
    assert compared(net, small, Basic.shape).result == "wrong"


def test_the_judge_takes_no_untouched_net() -> None:
    net, _ = pruned(Basic)
    assert compared(net, copy.deepcopy(net), Basic.shape).result == "wrong"


def test_the_judge_runs_both_branches_of_a_net_that_chooses() -> None:
    net = lively(Experts())
    small = copy.deepcopy(net)
    with torch.no_grad():
        keep = torch.arange(6)
        small.easy = nn.Linear(12, 6)
        small.easy.weight.copy_(net.easy.weight[keep])
        small.easy.bias.copy_(net.easy.bias[keep])
        small.head = nn.Linear(6, 5)
        small.head.weight.copy_(net.head.weight[:, keep])
        small.head.bias.copy_(net.head.bias)
    verdict = compared(net, small, Experts.shape)  # `hard` still gives twelve
    assert verdict.result == "wrong"
    assert "does not run" in verdict.detail


def test_the_judge_knows_what_a_net_says_of_itself() -> None:
    class Masked(SoftmaxOverChannels):
        """Says nothing of itself: a softmax over channels is not one over channels of zeros."""

        alive = Net.alive

    keep = [0, 2, 3, 6]
    for cls, result in ((SoftmaxOverChannels, "equal"), (Masked, "wrong")):
        net = lively(cls())
        small = copy.deepcopy(net)
        small.stem.weight, small.stem.bias = (nn.Parameter(p[keep]) for p in net.stem.parameters())
        small.last[0].weight = nn.Parameter(net.last[0].weight[:, keep])
        assert compared(net, small, cls.shape).result == result


def test_entries_are_found_by_value_and_torn_channels_are_seen() -> None:
    full = torch.randperm(60, generator=torch.Generator().manual_seed(0)).float().view(3, 4, 5)
    left = full[[2, 0]][:, [1, 3]]
    assert [at.tolist() for at in entries(full, left)] == [[2, 0], [1, 3], [0, 1, 2, 3, 4]]
    torn = left.clone()
    torn[0, 0], torn[0, 1] = left[0, 1], left[0, 0]
    for bad in (torn, left + 0.5, full.sum(0)):
        with pytest.raises(ValueError, match="of"):
            entries(full, bad)


def test_a_refusal_has_to_name_a_layer_and_to_help() -> None:
    net = nn.Sequential(OrderedDict(net=Basic()))
    assert not unhelpful(net, CompressitError("net.short meets net.in1.0", "ignore=['net.short']"))
    assert "layer" in unhelpful(net, CompressitError("something is short, net.shorter", "it helps"))
    assert "help" in unhelpful(net, CompressitError("net.short has no channel to lose"))


def test_values_of_a_lively_net_differ_and_what_is_shared_stays_shared() -> None:
    tied = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300))
    tied[2].weight = tied[0].weight
    lively(tied)
    assert tied[2].weight is tied[0].weight
    assert tied[0].weight.unique().numel() == 300 * 300
    x = torch.rand(2, 300)
    assert F.linear(x, tied[0].weight).std() > 0.1
