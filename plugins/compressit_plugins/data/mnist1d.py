"""`data.mnist1d`: one-dimensional digits (Greydanus & Kobak 2024). Needs the extra `compressit[mnist1d]`."""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import TYPE_CHECKING

from pydantic import Field

from compressit import CompressitError, DataConfig, Dataset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from compressit import DataContext, Sources


class Mnist1dConfig(DataConfig):
    """Options of MNIST-1D."""

    train: int = Field(default=4000, ge=10, description="number of training examples")
    test: int = Field(default=1000, ge=10, description="number of test examples")
    draw: int = Field(
        default=42, ge=0, lt=2**32, description="seed of the package's generator; 42 is its own"
    )


class Mnist1d(Dataset[Mnist1dConfig]):
    """MNIST-1D: ten shapes in 40 numbers, moved, sheared and noisy, made by the package `mnist1d`.

    By default the 4,000 training and 1,000 test examples that the package makes by default (arXiv 2011.14439).
    """

    name = "data.mnist1d"

    @property
    def inputs(self) -> TensorSpec:
        return TensorSpec((1, 40), low=None, high=None)

    @property
    def classes(self) -> int:
        return 10

    @property
    def train_size(self) -> int:
        return self.config.train

    def fingerprint(self) -> str:
        """A digest of the package's version. Raises CompressitError if it is not installed."""
        try:
            version = importlib.metadata.version("mnist1d")
        except importlib.metadata.PackageNotFoundError as error:
            raise CompressitError(
                "data.mnist1d needs the package mnist1d, which is not installed",
                "install compressit[mnist1d]: `pip install 'compressit[mnist1d]'`",
            ) from error
        return hashlib.sha256(f"mnist1d {version}".encode()).hexdigest()

    def load(self, ctx: DataContext) -> Sources:
        """float32 inputs (n, 1, 40) of mean 0 and deviation 1 over all examples, as the package gives them."""
        from compressit import Sources
        from compressit_plugins.data.mnist1d_examples import made

        train, test = made(self.config.train, self.config.test, self.config.draw)
        return Sources(train=train, test=test)


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Mnist1d]
