"""`compressit.data` of what people have in Python."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
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


def _swapped(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder(">"))


def _locked(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array,
        list,
        _swapped,
        _locked,
        lambda array: array[::-1].copy()[::-1],
        lambda array: array.astype("u2") if array.dtype == np.int64 else array,
        lambda array: array.astype("longdouble") if array.dtype == np.float32 else array,
    ],
    ids=["array", "listed", "byte order", "read-only", "backwards", "uint16", "long double"],
)
@pytest.mark.parametrize("x", [X, X / 255, X.long()], ids=["bytes", "floats", "whole"])
def test_arrays_are_tensors(give: Give, x: Tensor, change: Callable[[Any], Any]) -> None:
    pair = (x.numpy(), Y.numpy())
    given = [*pair] if change is list else tuple(map(change, pair))
    data, same = give(train=given, test=given), give(train=(x, Y), test=(x, Y))
    assert data.contract == same.contract
    assert torch.equal(data.train.x, same.train.x)  # type: ignore[arg-type]
    assert torch.equal(data.train.y, same.train.y)


def test_arrays_are_used_where_they_lie_and_never_where_they_may_not_be_written(give: Give) -> None:
    x = torch.rand(40, 5).numpy()  # in memory that torch aligned; NumPy's own is copied where it is not
    y = np.arange(40) % 2
    shared, apart = give(train=(x, y)), give(train=(_locked(x), _locked(y)))
    assert shared.train.x.data_ptr() == x.ctypes.data  # type: ignore[union-attr]
    apart.train.x.zero_()  # type: ignore[union-attr]
    apart.train.y.zero_()


@pytest.mark.parametrize("container", [tuple, list])
def test_several_inputs_are_listed_or_named_arrays(give: Give, container: Any) -> None:
    x, ids = X[:, :, 0, 0] / 255, X[:, 0, 0, :2].long()
    listed = give(train=(container([x.numpy(), ids.numpy()]), Y.numpy()))
    named = give(train=({"x": x.numpy(), "ids": ids.numpy()}, Y.numpy()))
    assert isinstance(listed.train.x, tuple)
    assert isinstance(named.train.x, dict)
    for one, other, wanted in zip(
        listed.train.x, (named.train.x["x"], named.train.x["ids"]), (x, ids), strict=True
    ):
        assert torch.equal(one, wanted)
        assert torch.equal(other, wanted)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": 3}, "takes a dataset's name, not a int"),
        ({"name": (X, Y)}, "takes a dataset's name, not a tuple"),
        ({"name": ["data.mnist"]}, "takes a dataset's name, not a list"),
        ({"train": (X, Y), "class_names": 3}, "class_names are 3"),
        ({"train": (X, Y), "class_names": "abc"}, "class_names are 'abc'"),
        ({"train": (X, Y), "class_names": [1, 2, 3]}, r"class_names are \[1, 2, 3\]"),
        ({"train": (X, Y), "device": 3}, "device is '3'"),
        ({"train": (X, Y), "announce": 3}, "announce= takes a function, not a int"),
        ({"train": (X, Y), "task": {"uses": 3}}, "the task is {'uses': 3}"),
        ({"train": (X, Y), "task": {"with": [3]}}, r"the task is {'with': \[3\]}"),
        ({"train": (X.numpy(), np.array(["cat"] * 60))}, "targets are an array of <U3, not of numbers"),
        ({"train": (np.array([None] * 60), Y)}, "inputs are an array of object, not of numbers"),
        ({"train": X.numpy()}, "examples are a ndarray, not a pair"),
        ({"train": (X.numpy()[:5], Y.numpy())}, "split has 5 inputs and 60 targets"),
    ],
)
def test_arguments_of_another_type_are_told(give: Give, given: dict[str, Any], told: str) -> None:
    with pytest.raises(CompressitError, match=told) as caught:
        give(**given)
    assert caught.value.hint


def test_a_torch_device_is_a_device(give: Give) -> None:
    assert give(train=(X, Y), device=torch.device("cpu")).train.y.device.type == "cpu"


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
