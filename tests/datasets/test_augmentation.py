from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from compressit.datasets.augmentation import augmented, example_seeds, uniform
from compressit.datasets.options import Crop, Erase
from compressit.seeds import Streams

INDEX = torch.arange(20_000)


def _seeds(count: int = 2000) -> Tensor:
    return example_seeds(Streams(0, "train"), 3, torch.arange(count))


def test_seeds_belong_to_an_example_whatever_the_batch() -> None:
    streams = Streams(0, "train")
    whole = example_seeds(streams, 3, INDEX)
    mixed = torch.randperm(len(INDEX))
    parts = torch.cat([example_seeds(streams, 3, part) for part in INDEX[mixed].split(7)])
    assert torch.equal(parts, whole[mixed])
    assert len(whole.unique()) == len(whole)
    assert not torch.equal(whole, example_seeds(streams, 4, INDEX))
    assert not torch.equal(whole, example_seeds(Streams(1, "train"), 3, INDEX))


def test_numbers_of_seeds_are_uniform_and_independent() -> None:
    numbers = uniform(example_seeds(Streams(0), 0, INDEX), 3).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.unbind(1):
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
        neighbours = torch.corrcoef(torch.stack([column[:-1], column[1:]]))[0, 1]
        assert abs(neighbours) < 5 / len(INDEX) ** 0.5
    assert torch.corrcoef(numbers.T).fill_diagonal_(0).abs().max() < 5 / len(INDEX) ** 0.5


def test_half_of_the_images_are_flipped() -> None:
    x = torch.randint(0, 256, (2000, 3, 4, 5), dtype=torch.uint8)
    done = augmented(x, ["flip"], _seeds())
    flipped = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(done, x, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(done, x, strict=True)])
    assert (flipped | kept).all()
    assert stats.binomtest(int(flipped.sum()), 2000).pvalue > 1e-3


@pytest.mark.parametrize("padding", [1, 3])
def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_come(padding: int) -> None:
    x = torch.rand(2000, 2, 5, 6)
    padded = F.pad(x, (padding,) * 4)
    seen: dict[tuple[int, int], int] = {}
    for done, whole in zip(augmented(x, [Crop(crop=padding)], _seeds()), padded, strict=True):
        windows = whole.unfold(1, 5, 1).unfold(2, 6, 1)  # (C, rows, columns, 5, 6)
        match = (windows == done[:, None, None]).all(-1).all(-1).all(0)
        (place,) = match.nonzero().tolist()
        seen[tuple(place)] = seen.get(tuple(place), 0) + 1
    assert len(seen) == (2 * padding + 1) ** 2
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_an_erased_square_lies_about_a_pixel_of_the_image() -> None:
    x = torch.ones(2000, 1, 6, 8)
    done = augmented(x, [Erase(erase=3)], _seeds())
    hidden = (done == 0).flatten(1).sum(1)
    assert ((done == 0) | (done == 1)).all()
    assert (int(hidden.min()), int(hidden.max())) == (4, 9)  # cut in a corner, whole inside
    share = float((done == 0).float().mean())
    rows, columns = (sum(len(range(max(0, c - 1), min(n, c + 2))) for c in range(n)) / n for n in (6, 8))
    assert share == pytest.approx(rows * columns / 48, rel=0.02)


def test_steps_draw_apart_and_type_and_layout_are_kept() -> None:
    x = torch.randint(0, 256, (500, 3, 8, 8), dtype=torch.uint8)
    twice = augmented(x, ["flip", "flip"], _seeds(500))
    changed = (twice != x).flatten(1).any(1).float().mean()
    assert 0.35 < changed < 0.65  # flipped by one of the two only
    done = augmented(x, ["flip", Crop(crop=2), Erase(erase=2)], _seeds(500))
    assert (done.dtype, done.shape, done.is_contiguous()) == (x.dtype, x.shape, True)
