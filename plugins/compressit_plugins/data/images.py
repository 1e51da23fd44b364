"""Decodes images of any kind to squares of bytes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from compressit import CompressitError, SkipExample, opened
from compressit_plugins.data.class_folders import Image

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # whatever the file's name says
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """The images below `root` as uint8 (channels, size, size), with their labels."""

    def __init__(self, root: str, images: Sequence[Image], size: int, grey: bool, skip: bool) -> None:
        self._root = root
        self._names = [image.name for image in images]
        self._labels = [image.label for image in images]
        self._size = size
        self._mode = "L" if grey else "RGB"
        self._skip = skip  # SkipExample for an image that cannot be decoded, else CompressitError

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = Path(self._root, self._names[index])
        try:
            with opened(path) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd metadata, and images above 90 megapixels
                with Pillow.open(file, formats=FORMATS) as image:
                    square = decoded(image, self._mode, self._size)
        except FileNotFoundError as error:
            raise CompressitError(f"{path} is gone since the folder was listed", "start again") from error
        except Exception as error:
            told = f"{path}: this image cannot be decoded: {_reason(error)}"
            if self._skip:
                raise SkipExample(f"{self._names[index]} ({_reason(error)})") from error
            raise CompressitError(
                told, "repair or remove it, or leave such images out: `on_error: skip`"
            ) from error
        pixels = torch.from_numpy(np.array(square, dtype=np.uint8))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous(), self._labels[index]


def decoded(image: Pillow.Image, mode: str, size: int) -> Pillow.Image:
    """The opened image as a square, turned as its EXIF data say."""
    ImageOps.exif_transpose(image, in_place=True)
    return squared(plain(image, mode), size)


def plain(image: Pillow.Image, mode: str) -> Pillow.Image:
    """The image in `mode`, "RGB" or "L", with 8 bits a channel: transparent pixels on white, 16 bits divided by 257.

    Raises ValueError for numbers that have no known white: whole ones of 32 bits, and floats.
    """
    if image.mode in _SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if image.mode == "I" and (image.format == "TIFF" or values.min() < 0 or values.max() > 65535):
            raise ValueError("it has 32 bits a pixel: save it with 8 or 16")
        image = Pillow.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode.startswith("F"):
        raise ValueError("its pixels are floats: save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Pillow.new("RGBA", image.size, "white")
        image.alpha_composite(coloured)
    return image if image.mode == mode else image.convert(mode)


def squared(image: Pillow.Image, size: int) -> Pillow.Image:
    """The image with its shorter side resized to `size` (bilinear, antialiased), and the centre of the longer one.

    As torchvision's Resize(size) and CenterCrop(size), to one level of 255, without making what is cropped: a strip of
    1 x 60,000 pixels would take gigabytes.
    """
    width, height = image.size
    short = min(width, height)
    resized = int(size * width / short), int(size * height / short)
    left, top = (round((side - size) / 2) for side in resized)
    across, down = width / resized[0], height / resized[1]  # pixels of the image for one of the result
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    return image.resize((size, size), Pillow.Resampling.BILINEAR, box)


def _reason(error: Any) -> str:
    """What went wrong, on one line and without the file object's address."""
    if isinstance(error, Pillow.UnidentifiedImageError):
        return "it is no JPEG, PNG, PPM, BMP, TIFF or WebP image"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
