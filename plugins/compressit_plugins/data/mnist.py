"""`data.mnist`: handwritten digits (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Dataset, hookimpl
from compressit_plugins.data import idx_images

if TYPE_CHECKING:
    from compressit_plugins.data.published_files import Published


class Mnist(idx_images.IdxImages):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey levels."""

    name = "data.mnist"

    @property
    def published(self) -> Published:
        from compressit_plugins.data import mnist_files

        return mnist_files.MNIST


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Mnist]
