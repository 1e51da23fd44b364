"""Where the archives of CIFAR are, and what their records hold."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compressit_plugins.data.published_files import Contents, File, Published, fetched

if TYPE_CHECKING:
    from torch import Tensor

_HOME = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """An archive, the files of records in it, and how many bytes of labels come before the pixels; the last counts."""

    published: Published
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: int


def from_toronto(published: Published, announce: Callable[[str], None]) -> Contents:
    """The archive from its authors' university. Raises Unavailable."""
    size = sum(file.size for file in published.files.values()) / 1e6
    announce(f"{published.title}: downloading {size:.0f} MB from {_HOME}, once")
    return fetched(published, [_HOME])


def examples(cifar: Cifar, contents: Contents) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The training and the test examples: uint8 images (n, 3, 32, 32) and int64 labels (n,)."""
    (packed,) = contents.values()
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        return _records(archive, cifar.train, cifar.labels), _records(archive, cifar.test, cifar.labels)


def _records(archive: tarfile.TarFile, names: Sequence[str], labels: int) -> tuple[Tensor, Tensor]:
    """Of the files in their order. No checks are needed: the archive's digest is the published one."""
    import torch

    content = bytearray()
    for name in names:
        stream = archive.extractfile(name)
        assert stream is not None
        content += stream.read()
    records = torch.frombuffer(content, dtype=torch.uint8).view(-1, labels + _PIXELS)
    return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].long()


CIFAR10 = Cifar(
    Published(
        title="CIFAR-10",
        plugin="data.cifar10",
        files={
            "cifar-10-binary.tar.gz": File(
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171
            )
        },
        sources=(from_toronto,),
    ),
    train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    test=("cifar-10-batches-bin/test_batch.bin",),
    labels=1,
)
CIFAR100 = Cifar(
    Published(
        title="CIFAR-100",
        plugin="data.cifar100",
        files={
            "cifar-100-binary.tar.gz": File(
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168_513_733
            )
        },
        sources=(from_toronto,),
    ),
    train=("cifar-100-binary/train.bin",),
    test=("cifar-100-binary/test.bin",),
    labels=2,  # of 20 coarse classes, then of 100 fine ones
)
