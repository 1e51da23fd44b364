from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from compressit.context import StageContext
from compressit.errors import NoEffectError
from compressit.splits import Data
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig
from compressit_plugins.prune.masks import prune_smallest, select_weights, smallest

Contexts = Callable[..., StageContext]
# few values, so that ties are the rule
TENSORS = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=12), min_size=1, max_size=4)


@given(TENSORS, st.floats(0.01, 0.99), st.sampled_from(["global", "layer"]))
def test_exactly_the_requested_number_of_the_smallest(
    values: list[list[int]], amount: float, scope: Any
) -> None:
    weights = {str(i): torch.tensor(v, dtype=torch.float32) for i, v in enumerate(values)}
    masks = smallest(weights, amount, scope)
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    for group in groups:
        chosen = torch.cat([masks[name] for name in group])
        magnitudes = torch.cat([weights[name].abs() for name in group])
        assert int(chosen.sum()) == round(amount * len(chosen))
        expected = sorted(range(len(chosen)), key=lambda i: (float(magnitudes[i]), i))[: int(chosen.sum())]
        assert sorted(chosen.nonzero().flatten().tolist()) == sorted(expected)


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.93])
def test_it_agrees_with_torchs_own_global_pruning(amount: float, build_mlp: Callable[..., nn.Module]) -> None:
    ours, theirs = build_mlp(20, 10), build_mlp(20, 10)
    prune_smallest(ours, amount)
    layers = [(m, "weight") for m in theirs.modules() if isinstance(m, nn.Linear)]
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=amount)
    for module, name in layers:
        torch_prune.remove(module, name)
    for name, value in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), value), name


def test_what_was_asked_for_and_what_was_done_is_noted(
    build_mlp: Callable[..., nn.Module], make_context: Contexts, synthetic: Callable[..., Data]
) -> None:
    ctx = make_context(data=synthetic())
    model = Magnitude(MagnitudeConfig(amount=0.3333, scope="layer")).compress(build_mlp(16), ctx)
    counts = {name: 64 * 16 if name.startswith("linear1") else 160 for name in ctx.notes["layers"]}
    zeros = {name: int((model.get_parameter(name) == 0).sum()) for name in counts}
    assert zeros == {name: round(0.3333 * n) for name, n in counts.items()}
    assert ctx.notes == {
        "requested": 0.3333,
        "achieved": sum(zeros.values()) / 1184,
        "zeros": sum(zeros.values()),
        "selected": 1184,
        "layers": {name: zeros[name] / counts[name] for name in counts},
    }
    assert all((model.get_parameter(f"{n}.bias") != 0).all() for n in ("linear1", "output"))


class Block(nn.Module):
    """A net with nested modules, a norm, a convolution and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head.weight


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (("*",), (), {"features.0.weight", "features.2.weight", "head.weight"}),
        (("features",), (), {"features.0.weight", "features.2.weight"}),
        (("features.?",), ("features.0",), {"features.2.weight"}),
        (("head.weight", "*.2"), (), {"features.2.weight", "head.weight"}),
        (("*",), ("features.*",), {"head.weight"}),
    ],
)
def test_globs_select_by_weight_or_module(include: Any, exclude: Any, names: set[str]) -> None:
    assert set(select_weights(Block(), include, exclude)) == names


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"include": ["haed"]}, r"'haed'(.|\n)*head"),
        ({"exclude": ["head", "features.9"]}, r"'features\.9'"),
        ({"include": ["features.1"]}, r"'features\.1'"),  # a norm has no weight matrix
        ({"include": ["head"], "exclude": ["*.weight"]}, "leaves nothing"),
        ({"amount": 0.001}, "changes none"),
    ],
)
def test_a_selector_without_effect_is_an_error_that_names_it(
    config: dict[str, Any], words: str, make_context: Contexts
) -> None:
    with pytest.raises(NoEffectError, match=words):
        Magnitude(MagnitudeConfig.model_validate(config)).compress(Block(), make_context())


def test_pruning_again_to_the_same_amount_is_without_effect(build_mlp: Callable[..., nn.Module]) -> None:
    model = build_mlp()
    prune_smallest(model, 0.5)
    with pytest.raises(NoEffectError, match="zero already"):
        prune_smallest(model, 0.5)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"name": "adam", "lr": 0.01, "weight_decay": 0.01},
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    ],
)
def test_finetuning_keeps_every_zero_moves_the_rest_and_leaves_a_plain_module(
    optimizer: dict[str, Any],
    synthetic: Callable[..., Data],
    build_mlp: Callable[..., nn.Module],
    make_context: Contexts,
    device: str,
) -> None:
    pruned = build_mlp(32).to(device)
    masks = prune_smallest(pruned, 0.8)
    ctx = make_context(data=synthetic(device), device=device)
    config = MagnitudeConfig.model_validate(
        {"amount": 0.8, "finetune": {"epochs": 15, "batch_size": 64, "clip": 1.0, "optimizer": optimizer}}
    )
    model = Magnitude(config).compress(build_mlp(32).to(device), ctx)
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert torch.equal(weight == 0, mask), name
        assert not torch.equal(weight, pruned.get_parameter(name))
        assert not weight._backward_hooks
    assert ctx.notes["zeros"] == round(0.8 * (64 * 32 + 320))
    data = ctx.data.test
    assert accuracy_and_loss(ctx.compute.forward(model, data.x), data.y)[0] > 0.9


def test_a_killed_finetuning_ends_with_the_same_tensors(
    synthetic: Callable[..., Data],
    build_mlp: Callable[..., nn.Module],
    make_context: Contexts,
    killed_after: Callable[[int], Any],
    killed: type[Exception],
) -> None:
    data, progress = synthetic(), killed_after(2)
    plugin = Magnitude(MagnitudeConfig.model_validate({"finetune": {"epochs": 4}}))
    expected = plugin.compress(build_mlp(), make_context(data=data))
    with pytest.raises(killed):
        plugin.compress(build_mlp(), make_context(data=data, progress=progress))
    resumed = plugin.compress(build_mlp(), make_context(data=data, progress=progress))
    for ours, theirs in zip(resumed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_estimate_counts_finetuning_only() -> None:
    assert Magnitude(MagnitudeConfig()).work(1000, 1).steps == 0
    config = MagnitudeConfig.model_validate({"finetune": {"epochs": 3, "batch_size": 100}})
    assert Magnitude(config).work(1000, 1).steps == 30


def test_a_rehearsal_leaves_the_model_and_reads_no_data(
    build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    def no_data() -> Data:
        raise AssertionError("the data are read")

    model = build_mlp(16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tried = Magnitude(MagnitudeConfig(amount=0.5)).rehearse(model, make_context(load_data=no_data))
    assert tried is model
    assert all(torch.equal(value, before[name]) for name, value in tried.state_dict().items())


@pytest.mark.parametrize(
    ("options", "rung", "message"),
    [
        ({"include": ("conv*",)}, 1, "'conv\\*' matches no weight"),
        ({"amount": 0.0001}, 1, "changes none of them"),
        ({"amount": 0.0009, "scope": "layer"}, 1, "changes none of them"),
        ({"amount": 0.5}, 2, "changes none of them"),
    ],
)
def test_what_will_change_nothing_is_said_by_the_rehearsal_and_then_it_is_so(
    build_mlp: Callable[..., nn.Module], make_context: Contexts, options: Any, rung: int, message: str
) -> None:
    plugin = Magnitude(MagnitudeConfig(**options))
    fresh, trained = build_mlp(8, 4), build_mlp(8, 4)
    with pytest.raises(NoEffectError, match=message):
        plugin.rehearse(fresh, make_context(rung=rung))
    for number in range(1, rung):
        plugin.compress(trained, make_context(rung=number))
    with pytest.raises(NoEffectError, match=message):
        plugin.compress(trained, make_context(rung=rung))


def test_each_rung_from_the_original_has_its_effect(
    build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    model = build_mlp(16)
    assert Magnitude(MagnitudeConfig()).rehearse(model, make_context(rung=2, feed="original")) is model
