"""Files that fill a network of one's own, and what such networks hold that no file can."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import load, save
from compressit.checkpoint.modules import Unfilled
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError

from . import forge

CONTRACT = InputSpec((6,), "unit", None, None, ("a", "b"))


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(6, 2))


def masked() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(6, 2), "weight", 0.5)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [(weight_normed, "remove_weight_norm"), (masked, "torch.nn.utils.prune.remove(layer, 'weight')")],
)
def test_weights_that_a_hook_computes_are_refused_with_the_remedy(
    make: Callable[[], nn.Module], remedy: str, path: Path
) -> None:
    net = nn.Sequential(make())
    with torch.no_grad():
        net(torch.zeros(1, 6))  # after this it could be copied
    with pytest.raises(CompressitError, match="weight of the layer 0 is computed from") as error:
        save(net, path, contract=CONTRACT)
    assert remedy in str(error.value.hint)
    (prune.remove if make is masked else nn.utils.remove_weight_norm)(net[0], "weight")
    save(net, path, contract=CONTRACT)
    assert torch.equal(load(path, into=nn.Sequential(nn.Linear(6, 2)))[0].weight, net[0].weight)


class Shifted(nn.Linear):
    """Adds a buffer that is not saved."""

    def __init__(self, shift: float = 0.0, device: str = "cpu") -> None:
        super().__init__(6, 2, device=device)
        self.register_buffer("shift", torch.full((2,), shift, device=device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift


def test_a_buffer_that_is_not_saved_must_be_in_the_net_and_is_named(path: Path) -> None:
    save(nn.Sequential(Shifted(1.0)), path, contract=CONTRACT)
    load(path, into=nn.Sequential(Shifted(1.0)))
    with pytest.raises(CompressitError, match="off by up to") as error:
        load(path, into=nn.Sequential(Shifted(2.0)))
    assert "does not store 0.shift (persistent=False)" in str(error.value.hint)
    other = nn.Sequential(nn.Linear(6, 2), nn.Tanh())
    save(nn.Sequential(nn.Linear(6, 2), nn.Sigmoid()), path, contract=CONTRACT)
    with pytest.raises(CompressitError, match="off by up to") as error:
        load(path, into=other)
    assert "not the one that was saved" in str(error.value.hint)


def test_a_net_on_the_meta_device_is_filled_and_what_stays_without_values_is_named(path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 2))
    save(net, path, contract=CONTRACT)
    again = load(path, into=nn.Sequential(nn.Linear(6, 2, device="meta")))
    assert torch.equal(again[0].weight, net[0].weight)
    save(nn.Sequential(Shifted()), path, contract=CONTRACT)
    with pytest.raises(CompressitError, match=r"'0\.shift' has no values"):
        load(path, into=nn.Sequential(Shifted(device="meta")))
    mixed = nn.Sequential(Shifted())
    mixed[0].shift = mixed[0].shift.to("meta")
    with pytest.raises(CompressitError, match=r"cannot store the tensor '0\.shift': .* on meta"):
        save(mixed, path)


def test_a_buffer_that_shares_a_parameters_memory_stays_a_buffer(path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(6, 2))
            self.register_buffer("start", self.weight.data)

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.weight + self.start)

    save(net := Twice(), path, contract=CONTRACT)
    assert read_header(path).manifest.tied == ()
    again = load(path, into=Twice())
    assert not isinstance(again.start, nn.Parameter)
    assert torch.equal(again.start, net.start)


def test_what_can_learn_does_and_whole_numbers_do_not(path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(6, width))
            self.frozen = nn.Parameter(torch.rand(width), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.float() * self.frozen

    net = Scaled(3)
    net.weight = nn.Parameter(torch.randint(-9, 9, (6, 3), dtype=torch.int8), requires_grad=False)
    save(net, path, contract=CONTRACT)
    again = load(path, into=Scaled(5))
    assert again.weight.dtype == torch.int8
    assert not any(p.requires_grad for p in again.parameters())
    save(Scaled(3), path, contract=CONTRACT)
    assert [p.requires_grad for p in load(path, into=Scaled(5)).parameters()] == [True, False]


class Versioned(nn.Linear):
    """Doubles what a version without a number saved, as torch's own layers convert their old states."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        if metadata.get("version") != 2:
            state[prefix + "weight"] = state[prefix + "weight"] * 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_layers_are_told_the_version_that_their_state_has(path: Path) -> None:
    save(net := nn.Sequential(Versioned(6, 2)), path, contract=CONTRACT)
    assert torch.equal(load(path, into=nn.Sequential(Versioned(6, 2)))[0].weight, net[0].weight)


def test_a_layer_that_loads_something_else_than_was_saved_is_not_published(path: Path) -> None:
    class Rounds(nn.Linear):
        def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
            state[prefix + "weight"] = state[prefix + "weight"].round()
            super()._load_from_state_dict(state, prefix, *rest)

    with pytest.raises(CompressitError, match=r"does not reload exactly: '0\.weight' differs"):
        save(nn.Sequential(Rounds(6, 2)), path)  # without inputs there are no outputs to differ
    assert not path.exists()


def test_comparing_outputs_changes_no_state(path: Path) -> None:
    class Counts(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 2)
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    net = nn.Sequential(Counts())
    save(net, path, contract=CONTRACT)
    assert net[0].calls == 0
    assert load(path, into=nn.Sequential(Counts()))[0].calls == 0


@pytest.mark.parametrize("compact", [False, True])
def test_true_and_false_are_ones_and_zeros(path: Path, compact: bool) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.arange(6000) % 1000 == 1)

    save(Masked(), path, compact=compact)
    header, content = read_header(path), bytearray(path.read_bytes())
    info = header.tensors["mask::values" if compact else "mask"]
    content[header.start + info.offsets[0]] = 7
    path.write_bytes(content)
    table, entry, data = forge.parts(path)
    entry["tensors_sha256"] = forge.digest(table, data)
    forge.write(path, table, entry, data)
    with pytest.raises(CompressitError, match="holds bytes other than 0 and 1"):
        load(path, into=Masked())


def test_names_that_a_file_cannot_have_and_inputs_it_cannot_record(tmp_path: Path) -> None:
    net = nn.Module()
    net.register_buffer("__metadata__", torch.zeros(3))
    with pytest.raises(CompressitError, match="tensor named '__metadata__'") as error:
        save(net, tmp_path / "m.safetensors")
    assert ".tmp" not in str(error.value)
    large = InputSpec((3, 4096, 4096), "unit", None, None, ("a", "b"))
    with pytest.raises(CompressitError, match="at most 16777216 are allowed") as error:
        save(nn.Sequential(nn.Flatten()), tmp_path / "m.safetensors", contract=large)
    assert "smaller input" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_header_too_large_to_be_read_is_not_published_and_says_so_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="the limit is 8388608") as error:
        save(nn.Linear(2, 2), tmp_path / "m.safetensors", lineage=[{"stage": "x" * 2**23}])
    assert ".tmp" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.zeros(3), persistent=False)
        nn.init.normal_(self.weight)
        nn.init.constant_(self.scale, 2.0)
        with torch.no_grad():
            self.weight.uniform_(5, 6)


def test_parameters_keep_what_was_in_their_memory_and_buffers_are_filled() -> None:
    state = torch.get_rng_state()
    with Unfilled():
        layer = Layer()
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.MultiheadAttention(8, 2))
    assert layer.weight.tolist() == [0, 0, 0]
    assert layer.scale.tolist() == [2, 2, 2]
    assert torch.equal(torch.get_rng_state(), state), "no weight was drawn"
    assert Layer().weight.min() >= 5, "outside of the block it is as ever"
