from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune as torch_prune

from compressit.contract.context import StageContext
from compressit.datasets.splits import Data
from compressit.errors import CompressitError, NoEffectError
from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig
from compressit_plugins.prune.masks import Pruning, prune_smallest
from compressit_plugins.prune.scores import chance
from compressit_plugins.prune.weights import others, select_weights

Contexts = Callable[..., StageContext]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8])
def test_it_agrees_with_torchs_own_global_pruning(
    sparsity: float, build_mlp: Callable[..., nn.Module]
) -> None:
    ours, theirs = build_mlp(20, 10), build_mlp(20, 10)
    prune_smallest(ours, sparsity)
    layers = [(m, "weight") for m in theirs.modules() if isinstance(m, nn.Linear)]
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=sparsity)
    for module, name in layers:
        torch_prune.remove(module, name)
    for name, value in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), value), name


def test_what_was_asked_for_and_what_was_done_is_noted(
    build_mlp: Callable[..., nn.Module], make_context: Contexts, synthetic: Callable[..., Data]
) -> None:
    ctx = make_context(data=synthetic())
    model = Magnitude(MagnitudeConfig(sparsity=0.3333, scope="layer")).compress(build_mlp(16), ctx)
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
        ({"include": ["head"], "exclude": ["*.weight"]}, "removes everything"),
        ({"sparsity": 0.001}, "changes none"),
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
    with pytest.raises(NoEffectError, match="already zero"):
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
        {"sparsity": 0.8, "finetune": {"epochs": 15, "batch_size": 64, "clip": 1.0, "optimizer": optimizer}}
    )
    model = Magnitude(config).compress(build_mlp(32).to(device), ctx)
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert torch.equal(weight == 0, mask), name
        assert not torch.equal(weight, pruned.get_parameter(name))
        assert not weight._post_accumulate_grad_hooks
    assert ctx.notes["zeros"] == round(0.8 * (64 * 32 + 320))
    data = ctx.data.test
    assert accuracy_and_loss(ctx.compute.forward(model, data.x), data.y)[0] > 0.9


def test_finetuning_keeps_the_zeros_of_an_earlier_pruning_too(
    synthetic: Callable[..., Data], build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    model = build_mlp(32)
    earlier = prune_smallest(model, 0.8, include=["linear1"])["linear1.weight"]
    config = MagnitudeConfig.model_validate({"include": ["output"], "finetune": {"epochs": 2}})
    Magnitude(config).compress(model, make_context(data=synthetic()))
    assert torch.equal(model.get_parameter("linear1.weight") == 0, earlier)
    assert int(model.get_parameter("output.weight").count_nonzero()) == 160


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


def test_a_dry_run_makes_the_zeros_and_reads_no_data(
    build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    def no_data() -> Data:
        raise AssertionError("the data are read")

    model = build_mlp(16)
    tried = Magnitude(MagnitudeConfig(sparsity=0.5)).dry_run(model, make_context(load_data=no_data))
    weights = [p for p in tried.parameters() if p.ndim > 1]
    assert sum(int((p == 0).sum()) for p in weights) == round(0.5 * sum(p.numel() for p in weights))


@pytest.mark.parametrize(
    ("options", "number", "message"),
    [
        ({"include": ("conv*",)}, 1, "'conv\\*' matches no weight"),
        ({"sparsity": 0.0001}, 1, "changes none of them"),
        ({"sparsity": 0.0009, "scope": "layer"}, 1, "changes none of them"),
        ({"sparsity": 0.001}, 2, "changes none of them"),  # the first round leaves nothing for the second
    ],
)
def test_what_will_change_nothing_is_said_by_the_dry_run_and_then_it_is_so(
    build_mlp: Callable[..., nn.Module], make_context: Contexts, options: Any, number: int, message: str
) -> None:
    plugin = Magnitude(MagnitudeConfig(**options))
    fresh, trained = build_mlp(8, 4), build_mlp(8, 4)
    with pytest.raises(NoEffectError, match=message):
        plugin.dry_run(fresh, make_context(round=number))
    for before in range(1, number):
        plugin.compress(trained, make_context(round=before))
    with pytest.raises(NoEffectError, match=message):
        plugin.compress(trained, make_context(round=number))


def test_each_round_from_the_original_has_its_effect(
    build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    model = build_mlp(16)
    assert Magnitude(MagnitudeConfig()).dry_run(model, make_context(round=2, feed="original")) is model


class Own(nn.Linear):
    """A linear layer of one's own."""


class Mixing(nn.Module):
    """A layer of one's own that holds its matrix itself."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.rand(4, 4))


class Kinds(nn.Module):
    """Every kind of layer with weight matrices, and of parameters that look like one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.token = nn.Embedding(5, 4), nn.Parameter(torch.rand(1, 1, 4))
        self.scale, self.places = nn.Parameter(torch.rand(4, 1, 1)), nn.Parameter(torch.rand(1, 3, 4))
        self.conv, self.up = nn.Conv1d(4, 4, 3), nn.ConvTranspose2d(4, 4, 2)
        self.same, self.other = (
            nn.MultiheadAttention(4, 2),
            nn.MultiheadAttention(4, 2, kdim=3, add_bias_kv=True),
        )
        self.lstm, self.cell = nn.LSTM(4, 4, 2, proj_size=2), nn.GRUCell(4, 4)
        self.pair, self.own, self.mixing = nn.Bilinear(4, 4, 4), Own(4, 4), Mixing()
        self.norm, self.tied = nn.LayerNorm((3, 4)), nn.Linear(4, 5)
        self.tied.weight = nn.Parameter(torch.rand(5, 4))
        self.first = nn.Embedding(5, 4)
        self.first.weight = self.tied.weight


OTHERS = {"token", "scale", "places", "table.weight", "other.bias_k", "other.bias_v", "mixing.matrix"}
OTHERS |= {"norm.weight", "norm.bias"}


def test_weights_are_chosen_by_the_type_of_their_layer() -> None:
    net = Kinds()
    chosen = select_weights(net)
    lstm = {f"lstm.weight_{part}_l{layer}" for part in ("ih", "hh", "hr") for layer in (0, 1)}
    assert set(chosen) == lstm | {
        "conv.weight", "up.weight", "same.in_proj_weight", "same.out_proj.weight", "other.q_proj_weight",
        "other.k_proj_weight", "other.v_proj_weight", "other.out_proj.weight", "cell.weight_ih", "cell.weight_hh",
        "pair.weight", "own.weight", "tied.weight",
    }  # fmt: skip
    assert set(others(net)) == OTHERS
    assert list(chosen) == [
        name for name, _ in net.named_parameters() if name in chosen
    ]  # ties: what stands first


def test_other_parameters_are_taken_when_they_are_named_and_only_then() -> None:
    net = Kinds()
    assert set(select_weights(net, ("own",), also=("table", "*.matrix"))) == {
        "own.weight", "table.weight", "mixing.matrix",
    }  # fmt: skip
    assert "table.weight" not in others(net, select_weights(net, also=("table",)))
    with pytest.raises(NoEffectError, match=r"'table' matches no weight matrix(.|\n)*table.weight.*`also`"):
        select_weights(net, ("table",))
    with pytest.raises(NoEffectError, match="'own' matches no"):
        select_weights(net, also=("own",))
    assert "table.weight" not in select_weights(net, exclude=("table",), also=("t*",))


def test_a_tied_weight_is_found_by_each_of_its_names() -> None:
    assert set(select_weights(Block(), ("tied",))) == {"head.weight"}
    assert "head.weight" not in select_weights(Block(), exclude=("tied",))
    assert set(select_weights(Kinds(), ("first",))) == {"tied.weight"}


def masked() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    torch_prune.l1_unstructured(net[1], "weight", 0.5)
    return net


def parametrised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


def recurrent() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 4), nn.utils.parametrizations.spectral_norm(nn.GRU(4, 4), "weight_hh_l0")
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (masked, r"1\.weight is masked by torch\.nn\.utils\.prune(.|\n)*remove"),
        (parametrised, r"1\.weight is parametrised(.|\n)*remove_parametrizations"),
        (recurrent, r"1\.weight_hh_l0 is parametrised"),
    ],
)
def test_a_weight_that_is_computed_is_refused_by_name_unless_it_stays(
    build: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(CompressitError, match=words):
        select_weights(build())
    assert "0.weight" in select_weights(build(), exclude=("1",))


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_b_16", "swin_v2_t"])
def test_scales_tokens_and_tables_of_torchvisions_nets_stay(name: str) -> None:
    with torch.device("meta"):
        net = torchvision.models.get_model(name, num_classes=10)
    tables = ("layer_scale", "class_token", "pos_embedding", "relative_position_bias_table", "logit_scale")
    stay = [n for n, p in net.named_parameters() if n.rpartition(".")[2] in tables]
    assert stay
    assert set(others(net)) == set(stay)
    modules = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.MultiheadAttention)]
    assert len(select_weights(net)) == len(modules)


def test_the_smallest_scales_of_a_net_stay_and_are_named(make_context: Contexts) -> None:
    net = Kinds()
    with torch.no_grad():
        net.scale.fill_(1e-6)
        net.token.fill_(1e-6)
    told: list[Any] = []
    ctx = dataclasses.replace(make_context(), emit=told.append)
    Magnitude(MagnitudeConfig(sparsity=0.5)).compress(net, ctx)
    assert set(ctx.notes["others"]) == OTHERS
    assert (net.scale == 1e-6).all()
    assert (net.token == 1e-6).all()
    assert any("scale" in event.get("announce", "") and "also" in event["announce"] for event in told)


def test_every_matrix_keeps_a_weight_and_the_number_is_exact(make_context: Contexts) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        net[3].weight.mul_(1e-4)
    largest = int(net[3].weight.abs().argmax())
    Magnitude(MagnitudeConfig(sparsity=0.5)).compress(net, make_context())
    assert net[3].weight.count_nonzero() == 1
    assert net[3].weight.flatten()[largest] != 0
    assert int((net[1].weight == 0).sum()) + 31 == (512 + 32) // 2


def test_what_would_leave_a_matrix_empty_is_said_by_the_dry_run(
    build_mlp: Callable[..., nn.Module], make_context: Contexts
) -> None:
    with pytest.raises(CompressitError, match="leaves 1 of 592 weights for 2 matrices"):
        Magnitude(MagnitudeConfig(sparsity=0.999)).dry_run(build_mlp(8), make_context())
    one = nn.Sequential(nn.Flatten(), nn.Linear(18, 1))
    Magnitude(MagnitudeConfig(sparsity=0.99)).compress(one, make_context())
    assert one[1].weight.count_nonzero() == 1


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_by_chance_as_many_weights_go_of_the_same_scope(
    scope: Any, build_mlp: Callable[..., nn.Module], make_context: Contexts, synthetic: Callable[..., Data]
) -> None:
    config = MagnitudeConfig(sparsity=0.7, scope=scope, score="random")
    one, again, smallest_gone = build_mlp(20, 10), build_mlp(20, 10), build_mlp(20, 10)
    Magnitude(config).compress(one, make_context(data=synthetic()))
    Magnitude(config).compress(again, make_context(data=synthetic()))
    Magnitude(MagnitudeConfig(sparsity=0.7, scope=scope)).compress(
        smallest_gone, make_context(data=synthetic())
    )
    sizes = [64 * 20, 20 * 10, 10 * 10]
    zeros = [[int((net.get_parameter(n) == 0).sum()) for n in select_weights(net)] for net in (one, again)]
    assert zeros[0] == zeros[1]
    assert sum(zeros[0]) == (
        sum(round(0.7 * n) for n in sizes) if scope == "layer" else round(0.7 * sum(sizes))
    )
    if scope == "layer":
        assert zeros[0] == [round(0.7 * n) for n in sizes]
    for name in select_weights(one):
        assert torch.equal(one.get_parameter(name), again.get_parameter(name))
    first = next(iter(select_weights(one)))
    gone = build_mlp(20, 10).get_parameter(first)[one.get_parameter(first) == 0].abs()
    left = one.get_parameter(first)[one.get_parameter(first) != 0].abs()
    assert float(gone.mean()) == pytest.approx(float(left.mean()), rel=0.1), "by chance, not by size"
    assert not torch.equal(one.get_parameter(first) == 0, smallest_gone.get_parameter(first) == 0)


def test_chance_keeps_the_zeros_that_are_there(build_mlp: Callable[..., nn.Module]) -> None:
    model = build_mlp(20, 10)
    masks = prune_smallest(model, 0.5)
    pruning = Pruning.of(model, 0.8)
    more = pruning.zero(chance(pruning.weights, torch.Generator().manual_seed(0)))
    for name, mask in masks.items():
        assert bool(more[name][mask].all()), name
    assert sum(int(mask.sum()) for mask in more.values()) == round(0.8 * (64 * 20 + 200 + 100))


def test_its_alternatives_have_the_same_budget() -> None:
    config = MagnitudeConfig(sparsity=0.7, scope="layer", exclude=("output*",))
    found = Magnitude(config).alternatives()
    assert {kind: other.score for kind, other in found.items()} == {
        "random": "random",
        "magnitude": "magnitude",
    }
    assert found["magnitude"] == config
    assert found["random"].model_dump(exclude={"score"}) == config.model_dump(exclude={"score"})
