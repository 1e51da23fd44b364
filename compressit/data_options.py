"""The options every dataset has; `compressit.splits` carries them out. No torch: `check` reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressit.config import Config


class DataConfig(Config):
    """Options of every dataset."""

    limit: int | None = Field(default=None, ge=1, description="use only the first this many training images")
    scale: Literal["unit", "standard"] = Field(
        default="unit",
        description="unit: pixels in [0, 1]; standard: training mean 0 and standard deviation 1 per channel",
    )
    labels: Literal["given", "random", "shuffled"] = Field(
        default="given",
        description="training labels: as given, drawn uniformly, or permuted; once, from `seed`, and fixed",
    )
    label_fraction: float = Field(
        default=1.0, gt=0, le=1, description="fraction of the training labels that `labels` replaces"
    )
    pixels: Literal["given", "shuffled", "gaussian"] = Field(
        default="given",
        description="inputs: as given, one fixed permutation of the pixels for every image, or Gaussian "
        "noise with the pixels' mean and standard deviation",
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        description="validation split cut from the training images: below 1 a fraction, from 1 a number",
    )
    seed: int = Field(default=0, description="seed of the random labels, pixels and the validation split")

    def validation_count(self, images: int) -> int:
        """How many of `images` training images go to the validation split."""
        return round(self.validation * images) if self.validation < 1 else int(self.validation)
