"""`data.folder`: images in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from compressit import DataConfig, Dataset, InputPath, TensorSpec, counted, hookimpl

if TYPE_CHECKING:
    from compressit import DataContext, Sources
    from compressit_plugins.data.class_folders import Found


class FolderConfig(DataConfig):
    """Options of class folders."""

    root: InputPath = Field(
        description="folder with a folder of images per class; or with `train`, and perhaps `test` and "
        "`validation`, which hold them; relative to the recipe"
    )
    size: int = Field(
        ge=1, description="pixels: images are resized (the shorter side) and cropped (the centre) to a square"
    )
    test: float = Field(
        default=0.0,
        ge=0,
        description="test images cut from the training images, of each class its part, where there is no folder "
        "`test`: below 1 a fraction, from 1 a number",
    )
    grey: bool = Field(default=False, description="one channel instead of red, green and blue")
    on_error: Literal["refuse", "skip"] = Field(
        default="refuse", description="what an image that cannot be decoded does: end the run, or be left out"
    )

    @field_validator("test")
    @classmethod
    def _is_a_share(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("must be a fraction below 1 or a whole number of images")
        return value


class Folder(Dataset[FolderConfig]):
    """Images in class folders, as torchvision's ImageFolder reads them, decoded once to squares of bytes."""

    name = "data.folder"

    @property
    def inputs(self) -> TensorSpec:
        size = self.config.size
        return TensorSpec((1 if self.config.grey else 3, size, size))

    @property
    def classes(self) -> int:
        return len(self._found.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._found.class_names

    @property
    def train_size(self) -> int:
        return len(self._found.splits["train"])

    @property
    def has_validation(self) -> bool:
        return "validation" in self._found.splits

    def fingerprint(self) -> str:
        """A digest of the images' names, sizes and times of change. It does not read them: a folder may hold millions.

        A copy with other times counts as other data.
        """
        return self._found.digest()

    def doubts(self) -> Sequence[str]:
        """No test images, and files that are not images."""
        found, told = self._found, list[str]()
        if "test" not in found.splits:
            told.append("there are no test images: set `test` (a fraction), or add a folder `test`")
        if found.others:
            told.append(
                f"{counted(len(found.others), 'file')} below root are no images of a class: "
                f"{', '.join(found.others[:3])}{', …' if len(found.others) > 3 else ''}"
            )
        return told

    def load(self, ctx: DataContext) -> Sources:
        """Torch Datasets of uint8 images (channels, size, size), which the host reads once.

        Transparent pixels are on white. Raises CompressitError for an image that cannot be decoded, by its path.
        """
        from compressit import Sources
        from compressit_plugins.data.images import ImageFiles

        config, splits = self.config, self._found.splits
        files = {
            name: ImageFiles(config.root, images, config.size, config.grey, config.on_error == "skip")
            for name, images in splits.items()
        }
        return Sources(files["train"], files.get("test"), files.get("validation"))

    @cached_property
    def _found(self) -> Found:
        """What lay there when this instance was asked first."""
        from compressit_plugins.data.class_folders import find

        return find(self.config.root, self.config.test)


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Folder]
