"""`data.fashion_mnist`: articles of clothing (Xiao, Rasul & Vollgraf 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Dataset, hookimpl
from compressit_plugins.data import idx_images

if TYPE_CHECKING:
    from compressit_plugins.data.published_files import Published


class FashionMnist(idx_images.IdxImages):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothing, 28 x 28 grey levels. Harder than MNIST."""

    name = "data.fashion_mnist"

    @property
    def class_names(self) -> tuple[str, ...]:
        return (
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        )  # fmt: skip

    @property
    def published(self) -> Published:
        from compressit_plugins.data import fashion_mnist_files

        return fashion_mnist_files.FASHION_MNIST


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [FashionMnist]
