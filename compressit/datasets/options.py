"""Options of every dataset, implemented in `compressit.datasets.splits`. Does not import torch, for a fast `check`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit.config import Config, changed

MOST_INPUTS = 2**24
"""The most values that one input may have (2364 x 2364 pixels in colour), so that probing a forged checkpoint cannot
fill the memory."""


class DataConfig(Config):
    """Options of every dataset."""

    limit: int | None = Field(
        default=None,
        ge=1,
        description="use only this many training images, the first ones; if these lack a class, the "
        "first of every class in proportion",
    )
    scale: Literal["unit", "standard"] = Field(
        default="unit",
        description="unit: pixels in [0, 1]; standard: training mean 0 and standard deviation 1 per channel",
    )
    labels: Literal["given", "random", "shuffled"] = Field(
        default="given",
        description="training labels: as given, random (uniform), or shuffled; drawn once, from `seed`",
    )
    label_fraction: float = Field(
        default=1.0, gt=0, le=1, description="fraction of the training labels that `labels` replaces"
    )
    pixels: Literal["given", "shuffled", "gaussian"] = Field(
        default="given",
        description="inputs: as given, with pixels permuted (the same way in all images), or Gaussian "
        "noise with the pixels' mean and standard deviation",
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        description="size of a validation split taken from the training images: below 1 a fraction, from 1 a number",
    )
    seed: int = Field(default=0, description="seed for random labels, pixels and the validation split")

    @field_validator("label_fraction")
    @classmethod
    def _replaces_labels(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("labels") == "given" and changed(cls, info, value):
            raise ValueError(
                "has no effect with `labels: given`: use random or shuffled labels, or remove it"
            )
        return value

    @field_validator("validation")
    @classmethod
    def _holds_some(cls, value: float, info: ValidationInfo) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("must be a fraction below 1 or a whole number of images")
        return value

    @field_validator("seed")
    @classmethod
    def _draws_something(cls, value: int, info: ValidationInfo) -> int:
        drawn = {"labels": "given", "pixels": "given", "validation": 0}
        if changed(cls, info, value) and all(info.data.get(name) == idle for name, idle in drawn.items()):
            raise ValueError(
                "has no effect: labels and pixels are as given and there is no validation split (`seeds` of the "
                "recipe sets the randomness of training)"
            )
        return value

    def validation_count(self, images: int) -> int:
        """The size of the validation split for `images` training images."""
        return round(self.validation * images) if self.validation < 1 else int(self.validation)


def validation_fault(options: DataConfig, train_size: int) -> str | None:
    """What is wrong with `validation` for a dataset of this size, or None."""
    images = min(train_size, options.limit or train_size)
    held = options.validation_count(images)
    if options.validation and not held:
        return f"rounds to 0 of {images:,} training images"
    return f"leaves none of the {images:,} images for training" if held >= images else None


def known_doubts(options: DataConfig, classes: int, train_size: int | None) -> list[str]:
    """Doubts known before loading: splits too small for all classes, a limit above the number of images."""
    limit = options.limit
    found: list[str] = []
    if limit is not None and train_size is not None and limit > train_size:
        found.append(f"`limit: {limit}` is above the number of training examples, {train_size}")
    images = min((size for size in (limit, train_size) if size is not None), default=None)
    if images is None:
        return found
    if images < classes:
        what = (
            f"`limit: {limit}` keeps fewer training examples"
            if images == limit
            else "there are fewer training examples"
        )
        found.append(f"{what} than classes ({classes})")
    held = options.validation_count(images)
    if options.validation and held < classes:
        found.append(
            f"`validation: {options.validation:g}` is {held} of {images} examples, fewer than the {classes} classes"
        )
    return found
