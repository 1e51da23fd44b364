"""`compressit.data` of what people have in Python."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import compressit
from compressit.datasets.splits import Data
from compressit.errors import CompressitError

X = torch.randint(0, 256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
Y = torch.arange(60) % 3
Give = Callable[..., Data]


@pytest.fixture
def give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Give:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path))
    return lambda **given: compressit.data(**{"announce": lambda text: None, **given})


class Items(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        return X[index], Y[index]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(Items())  # type: ignore[call-overload]


class Nothing(Items):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "train",
    [(X, Y), (X, Y.int()), (X, Y.to(torch.uint8)), Items(), TensorDataset(X, Y), DataLoader(Items(), 7)],
)
def test_tensors_datasets_and_loaders_give_the_same_splits(give: Give, train: Any) -> None:
    data = give(train=train, test=(X[:9], Y[:9]), validation=0.2, scale="standard", augment=["flip"])
    same = give(train=(X, Y), test=(X[:9], Y[:9]), validation=0.2, scale="standard", augment=["flip"])
    assert data.contract == same.contract
    assert data.classes == 3
    for one, other in zip(data.train.batches(8, 0), same.train.batches(8, 0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert data.validation is not None
    assert len(data.validation) == 12


def test_a_split_of_ones_own_is_not_cut_from_the_training(give: Give) -> None:
    data = give(train=(X, Y), validation=(X[:5], Y[:5]))
    assert (len(data.train), data.validation and len(data.validation), data.test) == (60, 5, None)
    with pytest.raises(CompressitError, match="the data have no test split"):
        data.split("test")


def test_what_was_kept_goes_with_the_last_split(give: Give, tmp_path: Path) -> None:
    data = give(train=Items())
    (folder,) = (tmp_path / "examples").iterdir()
    train = data.with_streams(compressit.Streams(0)).train
    del data
    gc.collect()
    assert folder.exists()
    assert len(list(train.batches(20, 0))) == 3
    del train
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"train": Endless()}, "IterableDataset"),
        ({"train": Nothing()}, "no example"),
        ({"train": (X, Y.double()), "task": "task.classification"}, "targets are torch.float64"),
        ({"train": np.zeros(3)}, "examples are a ndarray"),
        ({"train": (X, Y), "class_names": ("a", "b")}, "labels from 0 to 2, and there are 2 classes"),
        ({"train": (X, Y - 1)}, "labels from -1"),
        ({"train": (X, Y), "augment": [{"crop": 9}]}, "out of sight"),
        ({"train": (X, Y), "scale": "unity"}, "scale must be"),
        ({"train": (X, Y), "validation": (X, Y), "limit": 0}, "limit must be at least 1"),
        ({}, "a dataset's name, or train="),
        ({"name": "data.synthetic", "train": (X, Y)}, r"train=\(tensor.{,60}… is not a plain value"),
        ({"train": Items(), "train_plain": TensorDataset(X[:9], Y[:9])}, "60 examples, and `train_plain` 9"),
        ({"train": (X, Y), "task": 3}, "the task is a int"),
        ({"train": (X, Y), "device": "gpu"}, "device is 'gpu'"),
        ({"train": (X, Y), "train_plain": (X, Y)}, "beside a `train` of tensors"),
    ],
)
def test_what_is_no_data_is_told(give: Give, given: dict[str, Any], told: str) -> None:
    with pytest.raises(CompressitError, match=told):
        give(**given)


class Drawn(Items):
    """The items, inverted or not."""

    def __getitem__(self, index: int) -> Any:
        return (X[index] if torch.rand(()) < 0.5 else 255 - X[index]), Y[index]


def test_tensors_may_be_the_plain_examples_of_a_dataset_that_draws(give: Give) -> None:
    data = give(train=Drawn(), train_plain=(X, Y), scale="standard")
    epochs = [torch.cat([x for x, _ in data.train.batches(8, epoch)]) for epoch in (0, 1)]
    assert not torch.equal(*(epoch.sort(0).values for epoch in epochs)), "drawn anew in each epoch"
    plain = give(train=(X, Y), scale="standard")
    assert data.contract == plain.contract
    assert torch.equal(torch.cat([x for x, _ in data.train.ordered(8)]), plain.train.x), "measured without"
