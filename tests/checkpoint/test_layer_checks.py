"""Numbers of a file that torch's native code would take at their word: refused at load, and at save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from compressit.checkpoint.layer_checks import check
from compressit.checkpoint.model import fresh, load, save
from compressit.contract.module_types import ModuleType
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from . import forge
from .child import taken
from .layers import CONTRACT, Many

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "bilinear": lambda: nn.Bilinear(5, 4, 3),
    "conv": lambda: nn.Conv2d(4, 6, (3, 1), groups=2),
    "transposed": lambda: nn.ConvTranspose1d(6, 4, 3, groups=2),
    "batch norm": lambda: nn.BatchNorm2d(5),
    "plain batch norm": lambda: nn.BatchNorm1d(5, affine=False),
    "instance norm": lambda: nn.InstanceNorm1d(5, affine=True),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "layer norm": lambda: nn.LayerNorm((4, 5)),
    "rms norm": lambda: nn.RMSNorm(5),
    "embedding": lambda: nn.Embedding(7, 5),
    "embedding bag": lambda: nn.EmbeddingBag(7, 5),
    "prelu": lambda: nn.PReLU(5),
    "attention": lambda: nn.MultiheadAttention(12, 3),
    "cross attention": lambda: nn.MultiheadAttention(12, 3, kdim=5, vdim=7, add_bias_kv=True),
    "rnn": lambda: nn.RNN(5, 4, bias=False),
    "lstm": lambda: nn.LSTM(5, 4, 2, bidirectional=True, proj_size=3),
    "gru": lambda: nn.GRU(5, 4, 3),
    "lstm cell": lambda: nn.LSTMCell(5, 4),
    "gru cell": lambda: nn.GRUCell(5, 4),
}
SIZES = {
    "linear": "in_features out_features", "bilinear": "in1_features in2_features out_features",
    "conv": "in_channels out_channels kernel_size groups", "transposed": "in_channels out_channels groups",
    "batch norm": "num_features", "plain batch norm": "num_features", "instance norm": "num_features",
    "group norm": "num_channels num_groups", "layer norm": "normalized_shape", "rms norm": "normalized_shape",
    "embedding": "num_embeddings embedding_dim", "embedding bag": "num_embeddings", "prelu": "num_parameters",
    "attention": "embed_dim num_heads head_dim kdim vdim", "cross attention": "kdim vdim", "rnn": "hidden_size",
    "lstm": "input_size hidden_size num_layers proj_size", "gru": "num_layers", "lstm cell": "hidden_size",
    "gru cell": "input_size",
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_fit_as_torch_makes_them(layer: Callable[[], nn.Module]) -> None:
    check(nn.Sequential(layer()))


@pytest.mark.parametrize(
    ("layer", "attribute"), [(layer, a) for layer in SIZES for a in SIZES[layer].split()]
)
def test_a_size_is_that_of_the_tensors(layer: str, attribute: str) -> None:
    built = getattr(LAYERS[layer](), attribute)
    number = built if isinstance(built, int) else built[0]
    for wrong in (0, -1, number + 7, None, number + 0.5, 10**12, 2**62):
        if wrong == built or (wrong is None and attribute in ("kdim", "vdim") and layer == "attention"):
            continue
        net = nn.Sequential(nn.ReLU(), LAYERS[layer]())
        setattr(net[1], attribute, wrong if isinstance(built, int) else (wrong, *built[1:]))
        with pytest.raises(CompressitError, match=f"of the {type(net[1]).__name__} at 1 "):
            check(net)


@pytest.mark.parametrize(
    ("layer", "attribute", "value"),
    [("conv", "transposed", True), ("transposed", "transposed", False), ("lstm", "bidirectional", False),
     ("gru", "bias", False), ("linear", "in_features", True), ("group norm", "num_groups", 4), ("conv", "groups", 4)],
)  # fmt: skip
def test_what_a_layer_is_made_as_it_stays(layer: str, attribute: str, value: Any) -> None:
    net = LAYERS[layer]()
    setattr(net, attribute, value)
    with pytest.raises(
        CompressitError, match=f"of the {type(net).__name__} at the top level .*{attribute}|{attribute} of"
    ):
        check(net)


@pytest.mark.parametrize(
    ("layer", "tensor", "shape"),
    [("linear", "weight", (3, 5, 1)), ("linear", "bias", (4,)), ("conv", "weight", (6, 2)), ("conv", "bias", (5,)),
     ("batch norm", "running_var", (4,)), ("attention", "in_proj_weight", (36, 11)),
     ("attention", "in_proj_bias", (12,)),
     ("cross attention", "q_proj_weight", (12, 11)), ("cross attention", "bias_k", (1, 1, 11)),
     ("lstm", "weight_hh_l1", (16, 4)), ("gru", "weight_ih_l0", (12, 5, 1)), ("gru", "weight_ih_l2", (12, 5)),
     ("rnn", "weight_hh_l0", (4, 3)), ("lstm cell", "bias_hh", (4,)), ("gru", "weight_ih_l0", (12, 0))],
)  # fmt: skip
def test_tensors_of_a_layer_fit_each_other(layer: str, tensor: str, shape: tuple[int, ...]) -> None:
    net = LAYERS[layer]()
    old = getattr(net, tensor)
    setattr(
        net, tensor, nn.Parameter(torch.zeros(shape)) if isinstance(old, nn.Parameter) else torch.zeros(shape)
    )
    with pytest.raises(
        CompressitError, match=f"{tensor} of the .* at the top level has shape .*; the layer's numbers imply"
    ):
        check(net)


def test_what_torch_allows_and_what_is_not_torchs_is_left_alone() -> None:
    class Own(nn.Module):
        padding, groups = -5, 0

        def __init__(self) -> None:
            super().__init__()
            self.stride, self.size, self.limit = 0, 10**12, 10**30

    check(
        nn.Sequential(
            Own(), nn.ZeroPad2d(-20), nn.LPPool2d(2, 3), nn.AdaptiveAvgPool2d((None, 7)), nn.Hardtanh(0, 1e20)
        )
    )


def test_a_layer_of_ones_own_reads_its_tensors_as_it_likes() -> None:
    class Packed(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return input @ self.weight.repeat(1, 2).T + self.bias

    net = Packed(8, 3)
    net.weight = nn.Parameter(torch.zeros(3, 4))
    check(net)
    net = weight_norm(nn.Linear(8, 3))
    check(net)
    check(lstm := weight_norm(nn.LSTM(5, 4), "weight_hh_l0"))
    for shape in ((16, 3), (15, 4)):  # which goes to native code, or cannot be computed
        lstm.parametrizations.weight_hh_l0.original1 = nn.Parameter(torch.ones(shape))  # type: ignore[union-attr]
        with pytest.raises(CompressitError, match="weight_hh_l0 of the ParametrizedLSTM at the top level"):
            check(lstm)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A file of a net with every kind of layer that takes numbers; it records all of them."""
    save(Many(), path := tmp_path / "many.safetensors", contract=CONTRACT)
    return path


def edited(path: Path, at: str, **attrs: Any) -> Path:
    edit = {"do": "set", "at": at, "attrs": attrs}
    return forge.forged(path, lambda entry: entry["edits"].append(edit))


@pytest.mark.parametrize(
    ("at", "attrs"),
    [
        ("stem", {"padding": [10, 1]}), ("stem", {"padding": [-1, -1]}), ("stem", {"padding": None}),
        ("stem", {"padding": [1.0, 1.0]}), ("stem", {"stride": [0, 0]}), ("stem", {"stride": [2**40, 1]}),
        ("stem", {"dilation": [65, 1], "padding": [1, 1]}), ("stem", {"kernel_size": [3, 0]}),
        ("pool", {"kernel_size": 2**31}), ("pool", {"padding": 2**31}), ("mean", {"output_size": 5000}),
        ("mean", {"output_size": None}), ("larger", {"scale_factor": 100.0}), ("larger", {"scale_factor": -1.0}),
        ("up", {"output_padding": [65, 65]}), ("fold", {"padding": 2**31}), ("fold", {"output_size": [2**20, 2**20]}),
        ("flat", {"start_dim": 10**30}), ("pad", {"padding": [9, 9, 9, 9]}), ("lstm", {"num_layers": 10**6}),
    ],
)  # fmt: skip
def test_numbers_that_make_sizes_have_a_range(many: Path, at: str, attrs: dict[str, Any]) -> None:
    for probe in (True, False):
        with pytest.raises(CompressitError, match=f"{next(iter(attrs))} of the .* at {at} is .*; it must be"):
            load(edited(many, at, **attrs), into=Many(), probe=probe)


def test_numbers_in_their_range_are_set(many: Path) -> None:
    path = edited(many, "stem", padding=[9, 0], stride=[1, 1])
    path = edited(edited(path, "pad", padding=[-2, 1, 8, 8]), "larger", scale_factor=2.5)
    net = load(path, into=Many(), probe=False)
    assert (net.stem.padding, net.pad.padding, net.larger.scale_factor) == ((9, 0), (-2, 1, 8, 8), 2.5)


def test_a_kernel_is_as_large_as_its_weight(path: Path) -> None:
    contract = InputSpec((1, 200), "unit", None, None, ("a", "b"))
    save(nn.Sequential(nn.Conv1d(1, 2, 100)), path, contract=contract)
    assert load(path, into=nn.Sequential(nn.Conv1d(1, 2, 3)))[0].kernel_size == (100,)


def test_what_a_builder_makes_larger_may_stay_so_and_become_smaller(many: Path) -> None:
    def larger() -> nn.Module:
        net = Many()
        net.stem.padding, net.larger.scale_factor = (100, 100), 9.0
        return net

    assert load(edited(many, "stem", padding=[100, 99]), into=larger(), probe=False).stem.padding == (100, 99)
    with pytest.raises(CompressitError, match="it must be between 0 and 100"):
        load(edited(many, "stem", padding=[101, 99]), into=larger(), probe=False)
    save(larger(), many, contract=CONTRACT)
    assert load(many, into=larger()).larger.scale_factor == 9


def test_limits_count_from_what_was_built_not_from_an_edit_before(many: Path) -> None:
    path = edited(edited(many, "stem", padding=[300, 300]), "stem", padding=[299, 299])
    with pytest.raises(CompressitError, match="padding of the Conv2d at stem"):
        load(path, into=Many())


def test_a_shared_layer_has_its_limits_under_each_name(many: Path) -> None:
    net = Many()
    net.again = net.stem
    save(net, many, contract=CONTRACT)
    with pytest.raises(CompressitError, match="padding of the Conv2d at stem"):
        load(edited(many, "again", padding=[3000, 3000]), into=net)


class Wide(nn.Conv2d):
    """A layer that its arguments make."""


@pytest.mark.parametrize("after", [None, 299], ids=["made", "made and edited"])
def test_a_layer_made_from_a_file_has_the_limits_of_an_edit(
    many: Path, after: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ModuleType(
        "t.Wide", lambda: Wide, lambda layer: {}, lambda args: Wide(3, 4, 3, padding=args["padding"])
    )
    host = Host(entry_points=False)
    monkeypatch.setattr(host, "module_types", lambda: [rule])

    def file(padding: int) -> Path:
        edits: list[dict[str, Any]] = [
            {"do": "replace", "at": "stem", "type": "t.Wide", "args": {"padding": padding}}
        ]
        if after:
            edits.append({"do": "set", "at": "stem", "attrs": {"padding": [after, after]}})
        return forge.forged(many, lambda entry: entry.update(edits=edits))

    with pytest.raises(CompressitError, match=r"padding of the Wide at stem is .*between 0 and 9"):
        load(file(300), into=Many(), host=host)
    if after is None:
        assert load(file(9), into=Many(), host=host, probe=False).stem.padding == (9, 9)


def test_even_a_builder_sets_no_number_that_torch_would_cut() -> None:
    for module in (nn.Fold(4, 2, padding=2**31), nn.Flatten(2**31), nn.Fold(4, 2, padding=2**20 + 1)):
        with pytest.raises(CompressitError, match="it must be between"):
            check(module)


def test_saving_refuses_what_loading_would(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2))
    net[1].weight = nn.Parameter(net[1].weight[:, :3])
    net[0].weight = nn.Parameter(net[0].weight[:3])
    net[0].bias = nn.Parameter(net[0].bias[:3])
    contract = InputSpec((5,), "unit", None, None, ("a", "b"))
    with pytest.raises(CompressitError, match=r"of the Linear at 0 .*\(3,\).*out_features 4") as error:
        save(net, tmp_path / "a.safetensors", contract=contract)
    assert "before saving" in str(error.value.hint)
    net[0].out_features = net[1].in_features = 3
    save(net, tmp_path / "a.safetensors", contract=contract)
    narrow = load(tmp_path / "a.safetensors", into=nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)))
    assert (narrow[0].out_features, narrow[1].in_features) == (3, 3)


@pytest.mark.parametrize(
    ("at", "attrs"),
    [("attention", {"num_heads": 0}), ("lstm", {"hidden_size": 0}), ("gru", {"hidden_size": 1000}),
     ("fold", {"padding": 2**31})],
)  # fmt: skip
def test_numbers_that_end_the_process_are_refused_before_they_can(
    many: Path, at: str, attrs: dict[str, int]
) -> None:
    def work() -> str:
        with pytest.raises(CompressitError, match=f" at {at} "):
            load(edited(many, at, **attrs), into=Many())
        return "refused"

    assert taken(work).said == "refused"


def test_fresh_weights_of_layers_that_do_not_fit_are_refused(saved: Path, host: Host) -> None:
    for value in (-1, None, 10**12):
        with pytest.raises(CompressitError, match="of the Linear at 1 "):
            fresh(edited(saved, "1", in_features=value), 0, host)
