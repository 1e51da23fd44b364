"""`data.cifar10`: small photos of 10 classes (Krizhevsky 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Dataset, hookimpl
from compressit_plugins.data import cifar_images

if TYPE_CHECKING:
    from compressit_plugins.data.cifar_files import Cifar


class Cifar10(cifar_images.CifarImages):
    """CIFAR-10: 50,000 training and 10,000 test photos of 10 classes, 32 x 32 pixels in colour."""

    name = "data.cifar10"

    @property
    def class_names(self) -> tuple[str, ...]:
        return ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    @property
    def archive(self) -> Cifar:
        from compressit_plugins.data import cifar_files

        return cifar_files.CIFAR10


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Cifar10]
