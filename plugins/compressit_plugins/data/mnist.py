"""`data.mnist`: handwritten digits (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from compressit import DataConfig, Dataset, InputPath, TensorSpec, hookimpl

if TYPE_CHECKING:
    from compressit import DataContext, Sources


class MnistConfig(DataConfig):
    """Options of MNIST."""

    root: InputPath | None = Field(
        default=None,
        description="folder with the four IDX files (plain or .gz); default: download them",
    )


class Mnist(Dataset[MnistConfig]):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey levels."""

    name = "data.mnist"

    @property
    def inputs(self) -> TensorSpec:
        return TensorSpec((1, 28, 28))

    @property
    def classes(self) -> int:
        return 10

    @property
    def train_size(self) -> int:
        return 60_000

    def fingerprint(self) -> str:
        """A digest of the four files' digests, which do not depend on where the files come from."""
        from compressit_plugins.data.mnist_files import FILES

        return hashlib.sha256(" ".join(file.sha256 for file in FILES.values()).encode()).hexdigest()

    def load(self, ctx: DataContext) -> Sources:
        """uint8 images (60000 and 10000, 1, 28, 28); raises CompressitError when the files cannot be had."""
        import torch

        from compressit import Sources
        from compressit_plugins.data.mnist_files import mnist_contents

        root = Path(self.config.root) if self.config.root is not None else None
        files = mnist_contents(ctx.cache / "mnist", root, ctx.announce)

        def numbers(
            name: str, header: int
        ) -> torch.Tensor:  # no checks needed: the files' digests are MNIST's
            return torch.frombuffer(bytearray(files[name][header:]), dtype=torch.uint8)

        def images(name: str) -> torch.Tensor:
            return numbers(name, 16).view(-1, 1, 28, 28)

        def labels(name: str) -> torch.Tensor:
            return numbers(name, 8).long()

        return Sources(
            train=(images("train-images-idx3-ubyte"), labels("train-labels-idx1-ubyte")),
            test=(images("t10k-images-idx3-ubyte"), labels("t10k-labels-idx1-ubyte")),
        )


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Mnist]
