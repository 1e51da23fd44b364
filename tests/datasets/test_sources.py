"""The three ways to keep examples give the same batches."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import Data, Split
from compressit.datasets.stored import stored
from compressit.datasets.streamed import AT_ONCE, Streamed
from compressit.errors import CompressitError
from compressit.seeds import Streams

X = torch.randint(0, 256, (53, 3, 6, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
Y = torch.arange(53) % 4
NAMES = ("a", "b", "c", "d")


class Pictures(Dataset[tuple[Tensor, int]]):
    """X and Y, one by one; with `draws`, moved by what the three global generators say."""

    def __init__(self, draws: bool = False, fails_at: int | None = None, dies_at: int | None = None) -> None:
        self.draws, self.fails_at, self.dies_at = draws, fails_at, dies_at

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == self.fails_at:
            raise OSError("truncated image")
        if index == self.dies_at:
            os._exit(9)
        x = X[index]
        if self.draws:
            by = int(torch.randint(6, ())) + np.random.randint(6) + random.randrange(6)
            x = x.roll(by, -1)
        return x, int(Y[index])


def _kept(folder: Path, dataset: Dataset[Any] | None = None, workers: int = 0) -> Any:
    return stored(dataset or Pictures(), folder, "pictures", workers, lambda text: None)


def _prepared(train: Any, **options: Any) -> Data:
    sources = Sources(train, (X[:9], Y[:9]))
    return prepare(sources, DataConfig.model_validate(options), 4, NAMES).with_streams(Streams(3, "train"))


def _all(split: Split, size: int = 8) -> list[Tensor]:
    """What a training of two epochs and a measurement see."""
    runs = [split.batches(size, 0), split.batches(size, 1), split.ordered(size)]
    return [part for run in runs for batch in run for part in batch]


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"scale": "standard", "limit": 40, "validation": 0.2},
    {"scale": "imagenet", "augment": ["flip", {"crop": 2}]},
    {"scale": {"mean": [0.5], "std": [0.25]}, "labels": "random", "augment": [{"erase": 2}], "validation": 9},
    {"pixels": "shuffled", "scale": "standard"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_file_gives_what_the_memory_gives(tmp_path: Path, options: dict[str, Any]) -> None:
    memory, file = _prepared((X, Y), **options), _prepared(_kept(tmp_path), **options)
    assert memory.contract == file.contract
    assert memory.doubts == file.doubts
    for name in ("train", "validation", "test"):
        one, other = getattr(memory, name), getattr(file, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert _equal(_all(one), _all(other))
            assert torch.equal(one.y, other.y)


def test_large_bytes_stay_bytes_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"scale": "standard", "pixels": "shuffled"}
    floats = _prepared((X, Y), **options)
    monkeypatch.setattr("compressit.datasets.preparation.MOST_FLOATS", 1000)
    bytes_ = _prepared((X, Y), **options)
    assert bytes_.train.inputs.dtype == torch.uint8  # type: ignore[attr-defined]
    assert _equal(_all(floats.train), _all(bytes_.train))
    assert torch.equal(floats.train.x, bytes_.train.x)


def test_augmented_examples_change_with_the_epoch_and_are_measured_as_they_are() -> None:
    plain, data = _prepared((X, Y)), _prepared((X, Y), augment=["flip", {"crop": 2}])
    assert torch.equal(data.train.x, plain.train.x)
    assert _equal(list(next(data.train.ordered(53))), list(next(plain.train.ordered(53))))
    again = [x for x, _ in data.train.batches(53, 0)], [x for x, _ in data.train.batches(53, 0)]
    assert _equal(*again)
    whole = torch.cat([x for x, _ in data.train.batches(53, 0)])
    assert torch.equal(whole, torch.cat([x for x, _ in data.train.batches(5, 0)])), "whatever the batch"
    assert not data.train.repeats
    assert plain.train.repeats


@pytest.mark.parametrize("workers", [1, 2])
def test_random_transforms_draw_alike_in_any_number_of_processes(tmp_path: Path, workers: int) -> None:
    plain = _kept(tmp_path)
    torch.manual_seed(0)
    alone = _all(_prepared(Streamed("pictures", Pictures(draws=True), plain)).train)
    torch.manual_seed(1)
    shared = _all(_prepared(Streamed("pictures", Pictures(draws=True), plain, workers)).train)
    assert _equal(alone, shared)
    still = _all(_prepared((X, Y)).train)
    assert _equal(shared[-14:], still[-14:]), "measured without the transforms"
    assert not _equal(shared[:14], still[:14])


def test_reading_draws_nothing_from_the_global_generators(tmp_path: Path) -> None:
    split = _prepared(Streamed("pictures", Pictures(draws=True), _kept(tmp_path))).train
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    list(split.batches(8, 0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tobytes())  # type: ignore[union-attr]


def test_a_dataset_is_read_once(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        stored(Pictures(), tmp_path / "a", "pictures", 0, said.append)
    assert len(said) == 1
    assert "53 examples" in said[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_cannot_be_read_is_named_and_nothing_is_kept(tmp_path: Path, workers: int) -> None:
    with pytest.raises(CompressitError, match=r"pictures: example 17 cannot be read: .*truncated image"):
        _kept(tmp_path, Pictures(fails_at=17), workers)
    assert _equal(_all(_prepared(_kept(tmp_path)).train), _all(_prepared((X, Y)).train))


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="a process that reads the data ended") as caught:
        _kept(tmp_path, Pictures(dies_at=17), 1)
    assert "workers" in str(caught.value.hint)


class Full(Pictures):
    """Its process may not enlarge the shared memory, as where /dev/shm is full."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if get_worker_info() is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return super().__getitem__(index)


def test_shared_memory_that_is_full_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="/dev/shm") as caught:
        _kept(tmp_path, Full(), 1)
    assert "workers" in str(caught.value.hint)


def test_a_file_that_was_cut_is_told(tmp_path: Path) -> None:
    split = _prepared(_kept(tmp_path)).train
    (tmp_path / "inputs").write_bytes((tmp_path / "inputs").read_bytes()[:-5])
    with pytest.raises(CompressitError, match=r"inputs: it is shorter"):
        _all(split)
    assert torch.equal(_all(_prepared(_kept(tmp_path)).train)[-2], X[48:].float() / 255), (
        "read anew, as it was told"
    )


class Elsewhere(Pictures):
    """The pictures in another order."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return super().__getitem__((index + 1) % len(X))


def test_targets_of_other_examples_are_told(tmp_path: Path) -> None:
    split = _prepared(Streamed("pictures", Elsewhere(draws=True), _kept(tmp_path))).train
    with pytest.raises(
        CompressitError, match=r"example \d+ has the target \d in `train`, and \d in `train_plain`"
    ):
        _all(split)


def test_what_is_read_batch_by_batch_is_not_in_memory(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="not in memory"):
        _prepared(_kept(tmp_path)).train.tensors()
    with pytest.raises(CompressitError, match="are read from a file"):
        _prepared(_kept(tmp_path), pixels="gaussian")


class Odd(Dataset[Any]):
    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self.item if index == 1 else (X[index], 0)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ((X[0].numpy(), 1), "ndarray"),
        ((X[0].long(), 1), "int64"),
        ((X[0].to(torch.complex64), 1), "complex64"),
        (((X[0], X[0]), 1), "a tuple of 2, those before it a Tensor"),
        ((X[0] / 51.0, 1), r"from 0\S* to 5, not 0\.\.1"),
        ((X[0] / 255.0, 1), "float32, those before it"),
        ((X[0][:, :4], 1), r"shape \(3, 4, 6\), not \(3, 6, 6\)"),
        ((X[0], "cat"), "target is 'cat'"),
        (X[0], "a Tensor, not a pair"),
    ],
)
def test_an_item_that_is_no_example_is_told(tmp_path: Path, item: Any, told: str) -> None:
    with pytest.raises(CompressitError, match=rf"example 1: .*{told}"):
        _kept(tmp_path, Odd(item))


class Uneven(Dataset[tuple[Tensor, Tensor]]):
    """Targets of another shape from the second batch on that is read."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[0], torch.zeros(2 if index < AT_ONCE else 3)


def test_targets_of_several_shapes_are_told(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=r"targets that are .* \(2,\), and others .* \(3,\)"):
        _kept(tmp_path, Uneven())
