from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compressit.checkpoint.header import copy_with, read_header, verify
from compressit.checkpoint.inspect import facts, render
from compressit.checkpoint.model import Architecture, fresh, load, save
from compressit.checkpoint.tensors import TYPES, pack, same_bits, unpack
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from . import forge
from .samples import MLP, TIED, equal

Make = Callable[..., nn.Module]
WIDE = Architecture("tiny.mlp", {"hidden": [96, 64]}, (1, 8, 8), 5)


def sparse(model: nn.Module, density: float) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in model.parameters():
            value[torch.rand(value.shape, generator=generator) >= density] = 0.0
    return model


@pytest.fixture
def compact(make: Make, host: Host, tmp_path: Path) -> Path:
    path = tmp_path / "compact.safetensors"
    save(sparse(make(WIDE), 0.05), path, WIDE, host=host, compact=True)
    return path


def test_a_sparse_model_takes_the_room_of_its_values_and_loads_dense(
    make: Make, host: Host, tmp_path: Path, compact: Path
) -> None:
    model = sparse(make(WIDE), 0.05)
    save(model, tmp_path / "dense.safetensors", WIDE, host=host)
    assert equal(load(compact, host=host), model)
    values = sum(p.numel() for p in model.parameters())
    there = sum(int(p.count_nonzero()) for p in model.parameters())
    dense_bytes, bytes_ = (path.stat().st_size for path in (tmp_path / "dense.safetensors", compact))
    assert dense_bytes - bytes_ == pytest.approx(4 * values - 4 * there - values / 8, abs=1000)
    save(model, tmp_path / "again.safetensors", WIDE, host=host, compact=True)
    assert (tmp_path / "again.safetensors").read_bytes() == compact.read_bytes()


def test_the_other_readers_of_a_file_know_compact_ones(compact: Path, host: Host, tmp_path: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in load(compact, host=host).state_dict().items()}
    assert {n: tuple(v.shape) for n, v in fresh(compact, 3, host).state_dict().items()} == shapes
    found = facts(compact)
    assert {entry["name"]: tuple(entry["shape"]) for entry in found["tensors"]} == shapes
    assert found["tensor_bytes"] == 4 * sum(map(math.prod, shapes.values()))
    assert found["stored_bytes"] < found["tensor_bytes"] / 5
    assert f"{len(found['compact'])} of them stored compactly" in render(found)
    copy_with(compact, tmp_path / "copy.safetensors", metrics={"loss": 1.0})
    assert verify(tmp_path / "copy.safetensors").manifest.compact.keys() == found["compact"].keys()
    assert equal(load(tmp_path / "copy.safetensors", host=host), load(compact, host=host))


def test_what_is_not_sparse_or_small_stays_as_it_is(make: Make, host: Host, tmp_path: Path) -> None:
    save(make(MLP), tmp_path / "a.safetensors", MLP, host=host)
    save(make(MLP), tmp_path / "b.safetensors", MLP, host=host, compact=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    tensors = {"small": torch.zeros(40), "none": torch.zeros(0, 3), "large": torch.zeros(1000)}
    assert list(pack(tensors)[1]) == ["large"]


def test_tied_weights_are_compact_once(make: Make, host: Host, tmp_path: Path) -> None:
    wide = Architecture("tiny.tied", {}, TensorSpec((7,), "int64", 0, 89), 90)
    save(sparse(make(wide), 0.1), path := tmp_path / "tied.safetensors", wide, host=host, compact=True)
    assert sorted(read_header(path).tensors) == ["embed.weight::mask", "embed.weight::values"]
    loaded = load(path, host=host)
    assert loaded.head.weight is loaded.embed.weight
    assert TIED.name == wide.name


@given(
    st.sampled_from(sorted(TYPES, key=str)),
    st.lists(st.integers(1, 40), min_size=0, max_size=3),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_every_type_and_every_bit_come_back(
    dtype: torch.dtype, shape: list[int], density: float, seed: int
) -> None:
    """Random bytes are NaNs, infinities, subnormals and negative zeros too."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape)
    size = torch.empty((), dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (count, size), generator=generator)
    raw[torch.rand(count, generator=generator) >= density] = 0
    tensor = raw.to(torch.uint8).reshape(-1).view(dtype).reshape(shape)
    stored, shapes = pack({"t": tensor})
    assert same_bits(unpack(stored, shapes)["t"], tensor)
    bytes_ = sum(part.numel() * part.element_size() for part in stored.values())
    assert bytes_ <= count * size


def test_negative_zeros_are_values_and_no_part_takes_anothers_name() -> None:
    tensor = torch.zeros(3000)
    tensor[5] = -0.0
    stored, shapes = pack({"t": tensor})
    assert stored["t::values"].tolist() == [0.0]
    assert math.copysign(1, unpack(stored, shapes)["t"][5]) == -1
    tensors = {"t": torch.zeros(3000), "t::mask": torch.ones(2)}
    stored, shapes = pack(tensors)
    assert (shapes, stored.keys()) == ({}, tensors.keys())


Change = Callable[[dict[str, Any], dict[str, Any]], object]


def end_of(table: dict[str, Any]) -> int:
    return max(place["data_offsets"][1] for place in table.values())


def _shape(shape: Any) -> Change:
    return lambda table, entry: entry["compact"].update({"1.weight": shape})


FORGED: dict[str, Change] = {
    "larger": _shape([96, 72]),
    "much larger": _shape([96 * 64 * 8]),
    "scalar": _shape([]),
    "nothing": _shape([0, 2**62]),
    "huge": _shape([2**70, 1]),
    "deep": _shape([1] * 100),
    "digits": _shape([10**4000] * 1000),
    "not stored so": lambda table, entry: entry["compact"].update({"7.bias": [5]}),
    "stored densely too": lambda table, entry: table.update(
        {"1.weight": {"dtype": "F32", "shape": [0], "data_offsets": [end_of(table), end_of(table)]}}
    ),
    "a part": lambda table, entry: entry["compact"].update({"1.weight::mask": [768]}),
    "mask type": lambda table, entry: table["1.weight::mask"].update(dtype="I8"),
    "values": lambda table, entry: table["1.weight::values"].update(
        shape=[1, *table["1.weight::values"]["shape"]]
    ),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_parts_that_do_not_fit_are_refused(change: Change, compact: Path, host: Host, tmp_path: Path) -> None:
    table, entry, data = forge.parts(compact)
    change(table, entry)
    path = forge.write(tmp_path / "forged.safetensors", table, entry, data)
    with pytest.raises(CompressitError, match=r"compact|malformed|JSON"):
        read_header(path)


@pytest.mark.parametrize("flip", [0, -1], ids=["a place", "padding"])
def test_a_mask_that_does_not_count_its_values_is_refused(flip: int) -> None:
    tensor = torch.zeros(3001)
    tensor[::7] = 1.5
    stored, shapes = pack({"t": tensor})
    mask: Tensor = stored["t::mask"]
    mask[flip] ^= 128
    with pytest.raises(CompressitError, match="mask of the compact tensor 't'"):
        unpack(stored, shapes)


def test_a_file_from_before_compact_tensors_loads(make: Make, host: Host, tmp_path: Path, path: Path) -> None:
    save(make(MLP), path, MLP, host=host)
    table, entry, data = forge.parts(path)
    del entry["compact"]
    old = forge.write(tmp_path / "old.safetensors", table, entry, data)
    assert equal(load(old, host=host), load(path, host=host))
