"""`data.cifar100`: small photos of 100 classes (Krizhevsky 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Dataset, hookimpl
from compressit_plugins.data import cifar_images

if TYPE_CHECKING:
    from compressit_plugins.data.cifar_files import Cifar

CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
    shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
    telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Cifar100(cifar_images.CifarImages):
    """CIFAR-100: 50,000 training and 10,000 test photos of 100 classes, 32 x 32 pixels in colour."""

    name = "data.cifar100"

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(CLASSES.split())

    @property
    def archive(self) -> Cifar:
        from compressit_plugins.data import cifar_files

        return cifar_files.CIFAR100


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Cifar100]
