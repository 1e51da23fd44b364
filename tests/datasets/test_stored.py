"""What a file of the cache leaves out, refuses and says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import SkipExample, Sources
from compressit.datasets.stored import stored
from compressit.errors import CompressitError

X = torch.arange(20 * 3, dtype=torch.uint8).view(20, 3, 1, 1)


class Gaps(Dataset[tuple[Tensor, int]]):
    """Examples of which some ask to be left out."""

    def __init__(self, count: int, missing: frozenset[int]) -> None:
        self.count, self.missing = count, missing

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index in self.missing:
            raise SkipExample(f"number {index} (broken)")
        return X[index], index % 2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], 0)])


class Endless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return X[0], 0


def _stored(folder: Path, missing: set[int], workers: int = 0) -> Any:
    return stored(Gaps(20, frozenset(missing)), folder, "gaps", workers, lambda text: None)


@pytest.mark.parametrize("workers", [0, 1])
def test_examples_that_ask_for_it_are_left_out_and_named_each_time(tmp_path: Path, workers: int) -> None:
    for _ in range(2):  # the second time they are not read
        source = _stored(tmp_path, {0, 3, 4, 19, 7}, workers)
        data = prepare(Sources(source, (X, torch.arange(20) % 2)), DataConfig(), 2, ("a", "b"))
        kept = [index for index in range(20) if index not in (0, 3, 4, 7, 19)]
        x, y = next(data.train.ordered(20))
        assert torch.equal(x, X[kept].float() / 255)
        assert y.tolist() == [index % 2 for index in kept]
        (told,) = data.doubts
        assert told.startswith("5 of 20 training examples are left out: number 0 (broken); number 3")
        assert "number 7" not in told


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=r"none of the 20 examples can be read: number 0"):
        _stored(tmp_path, set(range(20)))


def test_what_changes_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    def changed() -> None:
        raise CompressitError("other files now")

    with pytest.raises(CompressitError, match="other files"):
        stored(Gaps(20, frozenset()), tmp_path, "gaps", 0, lambda text: None, changed)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("labels")] == []
    said: list[str] = []
    stored(Gaps(20, frozenset()), tmp_path, "gaps", 0, said.append)
    assert "reading 20 examples" in said[0]


REFUSED = [
    (Stream(), "training examples are a Stream, an IterableDataset"),
    (Endless(), "training examples are a Endless, a torch Dataset without `__len__`"),
    (Gaps(0, frozenset()), "training examples are a Gaps of no examples"),
    ([X, X], "training examples are a list"),
]


@pytest.mark.parametrize(("examples", "told"), REFUSED)
def test_what_has_no_numbered_examples_is_refused_by_name(examples: Any, told: str) -> None:
    with pytest.raises(CompressitError, match=told) as caught:
        Sources(examples)
    assert ("__getitem__" in str(caught.value.hint)) == isinstance(examples, Dataset)


def test_data_say_what_they_are_on_one_line(tmp_path: Path) -> None:
    data = prepare(
        Sources(_stored(tmp_path, set()), (X, torch.arange(20) % 2)), DataConfig(validation=5), 2, ("a", "b")
    )
    shown = repr(data)
    assert "train=Sourced(15 examples of shape (3, 1, 1) for cpu)" in shown
    assert "test=InMemory(20 examples" in shown
    assert "classes=2, scale='unit'" in shown
    assert len(shown) < 250
    assert "\n" not in shown


def test_noise_in_place_of_a_files_inputs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match="pixels: gaussian") as caught:
        prepare(Sources(_stored(tmp_path, set())), DataConfig(pixels="gaussian"), 2, ("a", "b"))
    assert "pixels: shuffled" in str(caught.value.hint)
