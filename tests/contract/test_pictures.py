"""Pictures as PNG files, read again by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from compressit.contract import pictures
from compressit.contract.pictures import is_png, png_of
from compressit.errors import CompressitError


def _read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (1, 1)])
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_values_come_back_as_they_were(shape: tuple[int, ...], of: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    png = png_of("x", of(values))
    assert is_png(png)
    assert (_read(png) == values).all()


def test_a_figure_is_drawn_twice_to_the_same_bytes() -> None:
    def drawn() -> bytes:
        figure = Figure((2, 1))
        figure.subplots().plot([0, 1], [1, 0])
        return png_of("x", figure)

    assert _read(drawn()).shape == (120, 240, 4)
    assert drawn() == drawn()


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("x", np.zeros((2, 2)), "float64 values of shape (2, 2)"),
        ("x", np.zeros((2, 2, 4), np.uint8), "shape (2, 2, 4)"),
        ("x", np.zeros((0, 2), np.uint8), "shape (0, 2)"),
        ("x", np.zeros(4, np.uint8), "shape (4,)"),
        ("x", "picture.png", "shape ()"),
        ("x", np.zeros((1, 4097), np.uint8), "4097 x 1 pixels"),
        ("x", Figure((40, 2)), "4800 x 240 pixels"),
        ("../x", np.zeros((2, 2), np.uint8), "cannot have this name"),
        ("ä" * 51, np.zeros((2, 2), np.uint8), "cannot have this name"),
    ],
)
def test_what_is_no_picture_is_refused(name: str, image: Any, words: str) -> None:
    with pytest.raises(CompressitError) as error:
        png_of(name, image)
    assert words in error.value.message


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 1000)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    assert png_of("x", np.zeros((40, 40), np.uint8))
    with pytest.raises(CompressitError, match="more than 1000"):
        png_of("x", noise)
