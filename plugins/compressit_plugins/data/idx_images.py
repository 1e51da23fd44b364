"""Data sets in the form of MNIST's four files: 28 x 28 grey levels, 60,000 of them to train with, 10,000 to test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit import DataConfig, Dataset, InputPath, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from compressit import DataContext, Sources
    from compressit_plugins.data.published_files import Published


class IdxConfig(DataConfig):
    """Options of a data set in IDX files."""

    root: InputPath | None = Field(
        default=None,
        description="folder with the four IDX files (plain or .gz); default: download them",
    )
    size: int = Field(
        default=28,
        ge=1,
        le=28,
        description="pixels along each side: below 28 each is the mean of those that it touches",
    )


class IdxImages(Dataset[IdxConfig]):
    """Images and labels of four IDX files."""

    @property
    def published(self) -> Published:
        """The four files, by their names at MNIST."""
        raise NotImplementedError

    @property
    def inputs(self) -> TensorSpec:
        return TensorSpec((1, self.config.size, self.config.size))

    @property
    def classes(self) -> int:
        return 10

    @property
    def train_size(self) -> int:
        return 60_000

    def fingerprint(self) -> str:
        """A digest of the four files' digests, which do not depend on where the files come from."""
        return self.published.fingerprint

    def load(self, ctx: DataContext) -> Sources:
        """uint8 images (60000 and 10000, 1, size, size); raises CompressitError when the files cannot be had."""
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        from compressit import Sources

        files = self.published.contents(self._cache(ctx), self.config.root, ctx.announce)

        # no checks are needed: the files' digests are those of the data set
        def numbers(name: str, header: int) -> torch.Tensor:
            return torch.frombuffer(bytearray(files[name][header:]), dtype=torch.uint8)

        def split(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            images = numbers(f"{name}-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
            if self.config.size < 28:
                images = adaptive_avg_pool2d(images.float(), self.config.size).round().to(torch.uint8)
            return images, numbers(f"{name}-labels-idx1-ubyte", 8).long()

        return Sources(train=split("train"), test=split("t10k"))

    def _cache(self, ctx: DataContext) -> Path:
        return ctx.cache / self.name.removeprefix("data.")
