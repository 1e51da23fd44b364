"""CIFAR in its binary version: records of labels and 32 x 32 pixels in red, green and blue.

The usual "python version" is a pickle, which could run code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit import DataConfig, Dataset, InputPath, TensorSpec

if TYPE_CHECKING:
    from compressit import DataContext, Sources
    from compressit_plugins.data.cifar_files import Cifar


class CifarConfig(DataConfig):
    """Options of CIFAR."""

    root: InputPath | None = Field(
        default=None,
        description="folder with the archive of the binary version; default: download it",
    )


class CifarImages(Dataset[CifarConfig]):
    """Images and labels of a binary CIFAR archive."""

    @property
    def archive(self) -> Cifar:
        """Where the records are."""
        raise NotImplementedError

    @property
    def inputs(self) -> TensorSpec:
        return TensorSpec((3, 32, 32))

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def train_size(self) -> int:
        return 50_000

    def fingerprint(self) -> str:
        """A digest of the archive's digest, which does not depend on where it comes from."""
        return self.archive.published.fingerprint

    def load(self, ctx: DataContext) -> Sources:
        """uint8 images (50000 and 10000, 3, 32, 32); raises CompressitError when the archive cannot be had."""
        from compressit import Sources
        from compressit_plugins.data.cifar_files import examples

        cache = ctx.cache / self.name.removeprefix("data.")
        contents = self.archive.published.contents(cache, self.config.root, ctx.announce)
        train, test = examples(self.archive, contents)
        return Sources(train=train, test=test)
