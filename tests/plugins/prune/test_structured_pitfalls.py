"""Torch-Pruning's pitfalls, each of which once cost somebody a model: a test for every one."""

from __future__ import annotations

import copy
import inspect
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from structured_nets import (
    Attention,
    Auxiliary,
    Constant,
    Grouped,
    Plain,
    Residual,
    Scaled,
    Squeeze,
    Tied,
    Transformer,
    built,
    example,
    images,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import compressit
from compressit.contract.compute import Compute
from compressit.contract.measure import macs
from compressit.errors import CompressitError, NoEffectError
from compressit_plugins.prune.channels import PruneReport, prune_channels, steady_seconds
from compressit_plugins.prune.importance import taylor

Widths = dict[str, tuple[int, ...]]


def shapes(net: nn.Module) -> Widths:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def pruned(net: nn.Module, keep: float = 0.5, **options: Any) -> PruneReport:
    return prune_channels(net, example(), keep, **options)[1]


def test_pitfall_01_train_mode_comes_back_module_by_module() -> None:
    net = built(Plain)
    net.norm1.eval()
    before = {name: module.training for name, module in net.named_modules()}
    pruned(net)
    assert {name: module.training for name, module in net.named_modules()} == before
    assert not net.norm1.training


def test_pitfall_02_a_frozen_net_is_traced_also_without_gradients_enabled() -> None:
    frozen, free = built(Plain).requires_grad_(False), built(Plain)
    with torch.no_grad():
        pruned(frozen)
    pruned(free)
    assert shapes(frozen) == shapes(free) != shapes(built(Plain))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_pitfall_03_new_parameters_keep_requires_grad_and_tied_ones_stay_tied() -> None:
    net = built(Plain)
    net.conv2.requires_grad_(False)
    pruned(net)
    assert {n for n, p in net.named_parameters() if not p.requires_grad} == {"conv2.weight", "conv2.bias"}
    tied = built(Tied)
    report = prune_channels(tied, example(), 0.5)[1]
    assert tied.first.weight is tied.again.weight
    assert tied.free.weight.shape == (8, 192)
    assert set(report.skipped) == {"first", "again"}
    assert "shares its weight with 'again'" in report.skipped["first"]


def test_pitfall_04_the_example_keeps_its_batch_and_an_error_of_the_network_is_told() -> None:
    class Mlp(nn.Sequential):
        ranks: list[int]

        def forward(self, x: Tensor) -> Tensor:
            self.ranks.append(x.ndim)
            return super().forward(x)

    net = Mlp(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    net.ranks = []
    prune_channels(net, torch.zeros(1, 6), 0.5)
    assert set(net.ranks) == {2}

    class Broken(Plain):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("no such feature")

    with pytest.raises(CompressitError, match=r"fails in Broken itself.*no such feature"):
        pruned(built(Broken))


def test_pitfall_05_ignoring_is_by_name_and_the_classifier_is_known_by_what_it_reaches() -> None:
    net = built(Residual)
    report = pruned(net, ignore=["out*"])
    assert net.outer.out_channels == net.stem.out_channels == 8  # coupled with it, so it stays as well
    assert net.inner.out_channels == 6
    assert not report.skipped
    squeeze = built(Squeeze)
    pruned(squeeze)
    assert squeeze.head.out_channels == 5
    assert squeeze.conv2.out_channels == 6
    with pytest.raises(NoEffectError, match="'outre' matches no layer") as error:
        pruned(built(Residual), ignore=["outre"])
    assert "outer" in str(error.value.hint)


def test_pitfall_06_a_group_below_the_threshold_as_a_whole_shrinks_and_a_skipped_one_is_named() -> None:
    net = built(Plain)
    with torch.no_grad():
        for parameter in (*net.conv1.parameters(), *net.norm1.parameters()):
            parameter.mul_(1e-3)
        net.conv2.weight[:, :].mul_(1e-3)
    # What Torch-Pruning's own selection does with scores of one group far below the other's:
    scorer = lambda model: lambda group: torch.full((len(group[0].idxs),), float(len(group[0].idxs)))  # noqa: E731
    report = pruned(net, scope="global", keep=0.6, importance=scorer)
    assert report.widths["conv1"] == (8, 1)
    assert report.widths["conv2"] == (12, 11 + 1)
    narrow = Plain(first=1)
    assert list(pruned(narrow).skipped) == ["conv1"]
    assert pruned(built(Plain), keep=0.1, max_ratio=0.75).widths == {"conv1": (8, 2), "conv2": (12, 3)}


def test_pitfall_07_round_to_takes_the_nearest_width_and_names_what_is_too_narrow() -> None:
    report = pruned(Plain(first=3, second=24), keep=0.6, round_to=8)  # 14.4 of 24: 16, not 8
    assert report.widths == {"conv1": (3, 3), "conv2": (24, 16)}
    assert list(report.skipped) == ["conv1"]


def test_pitfall_08_a_ratio_too_small_for_the_widths_is_said() -> None:
    with pytest.raises(NoEffectError, match="no channel would be removed"):
        pruned(built(Plain), keep=0.97)
    with pytest.raises(CompressitError, match="the nearest are"):
        pruned(Plain(2, 2), keep=0.9, target="parameters")


def test_pitfall_09_parameters_outside_layers_lose_the_right_dimension() -> None:
    net = built(Scaled)
    pruned(net)
    assert net.scale.shape == (4, 1, 1)
    assert net.place.shape == (1, 6, 8, 8)  # Torch-Pruning would take the last
    assert net.gain.shape == (1,)
    net(images())


def test_pitfall_10_sizes_in_attributes_follow_heads_stay_and_a_failure_names_the_layer() -> None:
    net = built(Transformer)
    pruned(net, keep=0.6)
    attention = net.attention
    assert isinstance(attention, Attention)
    assert attention.num_heads == 3
    assert attention.qkv.weight.shape == (3 * 3 * attention.head_dim, 7)
    assert attention.attn_dim == attention.proj.in_features == 3 * attention.head_dim == 6
    assert net(images()).shape == (4, 5)
    constant = built(Constant)
    before = copy.deepcopy(constant.state_dict())
    where = r"conv2.*a forward pass fails in Constant itself \(structured_nets\.py:\d+\).*12"
    with pytest.raises(CompressitError, match=where):
        pruned(constant, ignore=["conv1"])
    assert all(torch.equal(value, before[name]) for name, value in constant.state_dict().items())
    report = pruned(constant)
    assert report.widths == {"conv1": (8, 4)}
    assert "12" in report.skipped["conv2"]


def test_pitfall_11_nothing_leaks_into_the_shared_default_arguments() -> None:
    pruned(built(Transformer), keep=0.6)
    pruned(built(Grouped))
    defaults = inspect.signature(tp.pruner.BasePruner.__init__).parameters
    for name in ("num_heads", "in_channel_groups", "out_channel_groups"):
        assert defaults[name].default == {}


def test_pitfall_12_layers_it_cannot_understand_are_refused() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.head = nn.GRU(24, 8, batch_first=True), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(x.flatten(2).flatten(1).view(len(x), 8, 24))[0].mean(1))

    with pytest.raises(CompressitError, match=r"memory is recurrent \(GRU\)"):
        pruned(Recurrent())

    with pytest.raises(CompressitError, match=r"could not be trained.*aux") as error:
        pruned(built(Auxiliary))
    assert "aux_logits" in str(error.value.hint)


def scripted(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        return torch.jit.trace(net.eval(), example())


def masked(net: Plain) -> nn.Module:
    prune.l1_unstructured(net.conv1, "weight", 0.5)
    return net


def reparametrised(net: Plain) -> nn.Module:
    parametrizations.weight_norm(net.conv1)
    return net


def old_weight_norm(net: Plain) -> nn.Module:
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(net.conv1)
    return net


@pytest.mark.parametrize(
    ("dress", "message"),
    [
        (lambda net: torch.compile(net, backend="eager"), "the model is compiled"),
        (nn.DataParallel, "wrapped in DataParallel"),
        (scripted, "a TorchScript module"),
        (masked, "conv1 is masked"),
        (reparametrised, "conv1 is parametrised"),
        (old_weight_norm, "conv1 is parametrised"),
    ],
)
def test_pitfall_13_dressed_models_are_refused(dress: Callable[[nn.Module], nn.Module], message: str) -> None:
    with pytest.raises(CompressitError, match=message):
        pruned(dress(built(Plain)))


def test_pitfall_14_macs_are_those_of_our_own_counter() -> None:
    class Odd(nn.Linear):
        """A subclass, and a functional product: Torch-Pruning's counter sees neither."""

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight, self.bias)

    net = nn.Sequential(nn.Flatten(), Odd(192, 40), nn.ReLU(), Odd(40, 40), nn.ReLU(), Odd(40, 5))
    parent = macs(net, (3, 8, 8))
    report = pruned(net, target="macs")
    assert report.achieved == pytest.approx(0.5, rel=0.02)
    assert report.achieved == macs(net, (3, 8, 8)) / parent


def test_pitfall_15_latency_is_measured_on_a_cpu_and_without_gradients() -> None:
    seen: list[tuple[bool, bool]] = []

    def clock(net: nn.Module, x: Tensor) -> float:  # proportional to the work
        seen.append((net.training, next(net.parameters()).is_meta))
        with torch.no_grad():
            net(x)
        return float(sum(p.numel() for p in net.parameters()))

    report = pruned(built(Plain), target="latency", seconds=clock)
    assert report.achieved == pytest.approx(report.parameters_kept)
    assert set(seen) == {(False, False)}
    assert steady_seconds(Compute())(built(Plain).eval(), example()) > 0


@pytest.mark.parametrize("place", ["main thread", "another thread"])
def test_pitfall_16_a_trace_that_never_ends_is_stopped(place: str) -> None:
    errors: list[CompressitError] = []

    def endless(group: Any) -> Tensor:
        gives_up = time.monotonic() + 20  # only where it is not stopped
        for swallows in (True, False):  # Torch-Pruning has a bare `except`
            try:
                while time.monotonic() < gives_up:
                    list(range(1000))
            except BaseException:
                if not swallows:
                    raise
        return torch.zeros(len(group[0].idxs))

    def attempt() -> None:
        try:
            pruned(built(Plain), importance=lambda model: endless, time_limit=0.2)
        except CompressitError as error:
            errors.append(error)

    if place == "main thread":
        attempt()
    else:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert [error.message for error in errors] == ["Torch-Pruning did not finish tracing Plain within 0.2 s"]


def test_pitfall_17_a_pruned_model_is_saved_and_loaded_without_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pickled")

    options = {"uses": "model.convnet", "inputs": (3, 8, 8), "outputs": 5, "channels": [6, 8]}
    from compressit_plugins.models.nets import convnet

    torch.manual_seed(0)
    net = convnet((3, 8, 8), 5, [6, 8])
    pruned(net)
    for name in ("torch.save", "torch.load", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps"):
        monkeypatch.setattr(name, never)
    compressit.save(net, tmp_path / "net.safetensors", **options)
    again = compressit.load(tmp_path / "net.safetensors")
    assert shapes(again) == shapes(net)
    assert torch.equal(again(images()), net.eval()(images()))


def test_pitfall_18_gradients_are_cleared_and_old_ones_do_not_count() -> None:
    batches = [(images(8), torch.arange(8) % 5)]
    clean, dirty = built(Plain), built(Plain)
    dirty.conv1(images()).square().sum().backward()
    dirty.conv1.weight.grad *= torch.linspace(-1e6, 1e6, 8).view(8, 1, 1, 1)
    for net in (clean, dirty):
        pruned(net, importance=taylor(batches, F.cross_entropy), steps=2)
    assert all(torch.equal(v, dirty.state_dict()[n]) for n, v in clean.state_dict().items())
    assert all(parameter.grad is None for parameter in dirty.parameters())
