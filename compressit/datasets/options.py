"""Options of every dataset, implemented in `compressit.datasets.splits`. Does not import torch, for a fast `check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from compressit.config import Config, changed
from compressit.datasets.specs import Inputs, TensorSpec, in_words

MOST_INPUTS = 2**24
"""The most values that one input may have (2364 x 2364 pixels in colour), so that probing a forged checkpoint cannot
fill the memory."""


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's red, green and blue: what torchvision's and most of timm's weights take."""


class Crop(Config):
    """Moves each image by up to `crop` pixels each way; black comes in (He et al. 2016, section 4.2)."""

    crop: int = Field(ge=1, description="pixels")


class Erase(Config):
    """Blackens a square about a random pixel, as far as it lies inside (DeVries & Taylor 2017, cutout)."""

    erase: int = Field(ge=1, description="side of the square in pixels")


class Scale(Config):
    """Mean and standard deviation of pixels in [0, 1], by which inputs are scaled."""

    mean: tuple[float, ...] = Field(min_length=1, description="of each channel, or one for all")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="of each channel, or one for all"
    )

    @field_validator("std")
    @classmethod
    def _goes_with_the_mean(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        mean = info.data.get("mean")
        if mean is not None and len(mean) != len(value):
            raise ValueError(f"has {len(value)} numbers, and `mean` has {len(mean)}")
        return value


def _block(value: object, *keys: str) -> str | None:
    """Which of `keys` the written mapping, or the config made of it, has; else the first; None for no mapping.

    The mistakes of a written value are told as those of one member of a union alone.
    """
    names = (
        value
        if isinstance(value, Mapping)
        else type(value).model_fields
        if isinstance(value, Config)
        else None
    )
    return None if names is None else next((key for key in keys if key in names), keys[0])


Augment = Annotated[
    Annotated[Literal["flip"], Tag("name")] | Annotated[Crop, Tag("Crop")] | Annotated[Erase, Tag("Erase")],
    Discriminator(
        lambda value: {None: "name", "crop": "Crop", "erase": "Erase"}[_block(value, "crop", "erase")]
    ),
]
"""One random change of training images."""

ScaleOption = Annotated[
    Annotated[Literal["unit", "standard", "imagenet"], Tag("name")] | Annotated[Scale, Tag("Scale")],
    Discriminator(lambda value: "Scale" if _block(value, "mean") else "name"),
]

UNMEASURED = ("augment", "workers")
"""Options that change nothing of the examples as they are measured."""


class DataConfig(Config):
    """Options of every dataset."""

    limit: int | None = Field(
        default=None,
        ge=1,
        description="use only this many training images, the first ones; if these lack a class, the "
        "first of every class in proportion",
    )
    scale: ScaleOption = Field(
        default="unit",
        description="unit: pixels in [0, 1]; standard: training mean 0 and standard deviation 1 per channel; "
        "imagenet: by ImageNet's mean and deviation; or your own, as `{mean: [...], std: [...]}`",
    )
    augment: tuple[Augment, ...] = Field(
        default=(),
        description="random changes of training images, in this order: `flip` (left and right, half of them), "
        "`{crop: 4}` (moved by up to 4 pixels), `{erase: 8}` (a square of 8 pixels blackened)",
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
    workers: int = Field(
        default=0,
        ge=0,
        description="processes that read examples which lie in files; 0: the job's own. The data are the same",
    )
    seed: int = Field(default=0, description="seed of the random labels, pixels and the validation split")

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

    @property
    def given_scale(self) -> Scale | None:
        """The mean and deviation that the options say themselves."""
        if self.scale == "imagenet":
            return Scale(mean=IMAGENET[0], std=IMAGENET[1])
        return self.scale if isinstance(self.scale, Scale) else None

    @property
    def scaling(self) -> Literal["unit", "standard"]:
        """What a checkpoint calls it: in `standard` a mean and deviation stand beside it."""
        return "unit" if self.scale == "unit" else "standard"

    def validation_count(self, images: int) -> int:
        """The size of the validation split for `images` training images."""
        return round(self.validation * images) if self.validation < 1 else int(self.validation)


def input_fault(
    options: DataConfig, inputs: Inputs, target: Literal["class", "vector", "map"] = "class"
) -> tuple[str, str] | None:
    """The option that such inputs cannot have, with the reason, if any. `target`: what the targets are, as a task
    says."""
    if options.labels == "random" and target != "class":
        return "labels", "draws classes, and these targets are none: use `labels: shuffled`"
    if target == "map" and options.augment:
        return "augment", "changes images, and their maps of classes would no longer fit them"
    if target == "map" and options.pixels == "shuffled":
        return "pixels", "shuffles the pixels of images, and their maps of classes would no longer fit them"
    if not isinstance(inputs, TensorSpec) or inputs.dtype != "float32":
        return _floats_fault(options, inputs)
    given, shape = options.given_scale, inputs.shape
    if given is not None and len(given.mean) not in (1, shape[0]):
        return "scale", f"has {len(given.mean)} channels, and the inputs {shape} have {shape[0]}"
    if options.scale == "imagenet" and (inputs.low, inputs.high) != (0, 1):
        return "scale", f"imagenet is for pixels in 0..1, and the inputs are {in_words(inputs)}"
    return _augment_fault(options, shape)


def _floats_fault(options: DataConfig, inputs: Inputs) -> tuple[str, str] | None:
    """The option that changes one tensor of floats, which these inputs are not."""
    idle = {
        "scale": options.scale == "unit",
        "augment": not options.augment,
        "pixels": options.pixels == "given",
    }
    wrong = next((name for name, unused in idle.items() if not unused), None)
    why = f"changes a tensor of floats, and the inputs are {in_words(inputs)}"
    return None if wrong is None else (wrong, why)


def _augment_fault(options: DataConfig, shape: tuple[int, ...]) -> tuple[str, str] | None:
    if options.augment and len(shape) != 3:
        return "augment", f"takes images (channels, height, width), and the inputs are {shape}"
    if options.augment and options.pixels == "gaussian":
        return "augment", "changes images, and `pixels: gaussian` puts noise in their place"
    if options.augment and options.pixels == "shuffled":
        return "augment", "changes images, and `pixels: shuffled` leaves no image to change"
    for step in options.augment:
        if isinstance(step, Crop) and step.crop >= min(shape[1:]):
            return (
                "augment",
                f"moves images of {shape[1]} x {shape[2]} pixels by up to {step.crop}: out of sight",
            )
    return None


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
