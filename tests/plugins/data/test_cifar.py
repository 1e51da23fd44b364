"""`data.cifar10` and `data.cifar100`, on small archives of the binary form."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compressit.contract.context import DataContext
from compressit.datasets.sources import Sources
from compressit.errors import CompressitError
from compressit_plugins.data import cifar_files
from compressit_plugins.data.cifar10 import Cifar10
from compressit_plugins.data.cifar100 import Cifar100
from compressit_plugins.data.cifar_images import CifarConfig
from compressit_plugins.data.published_files import File

RANDOM = np.random.default_rng(0)


def records(labels: list[list[int]]) -> tuple[bytes, np.ndarray]:
    """As cs.toronto.edu/~kriz/cifar.html describes them: labels, then 1,024 bytes of red, of green and of blue, each
    row by row. Also the images (n, 32, 32, 3)."""
    images = RANDOM.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    parts = [
        bytes(own) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for own, image in zip(labels, images, strict=True)
    ]
    return b"".join(parts), images


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Small archives in `tmp_path`, whose digests are the expected ones; their images by member."""
    images: dict[str, np.ndarray] = {}
    wanted = {
        "CIFAR10": {
            **{f"cifar-10-batches-bin/data_batch_{n}.bin": [[n], [9 - n]] for n in range(1, 6)},
            "cifar-10-batches-bin/test_batch.bin": [[3]],
        },
        "CIFAR100": {"cifar-100-binary/train.bin": [[4, 0], [1, 99]], "cifar-100-binary/test.bin": [[19, 7]]},
    }
    for name, members in wanted.items():
        cifar = getattr(cifar_files, name)
        (file,) = cifar.published.files
        with tarfile.open(tmp_path / file, "w:gz") as tar:
            for member, labels in members.items():
                content, images[member] = records(labels)
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        packed = (tmp_path / file).read_bytes()
        files = {file: File(hashlib.sha256(packed).hexdigest(), len(packed))}
        known = replace(cifar, published=replace(cifar.published, files=files))
        monkeypatch.setattr(cifar_files, name, known)
    monkeypatch.setattr(cifar_files, "_HOME", f"{tmp_path.as_uri()}/")
    return images


def load(kind: type[Cifar10 | Cifar100], cache: Path, root: Path | None = None) -> Sources:
    return kind(CifarConfig(root=str(root) if root else None)).load(DataContext(cache, print))


def test_cifar10_has_its_batches_in_their_order(archives: dict[str, np.ndarray], tmp_path: Path) -> None:
    sources = load(Cifar10, tmp_path / "cache", root=tmp_path)
    assert sources.train[1].tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    batches = [archives[f"cifar-10-batches-bin/data_batch_{n}.bin"] for n in range(1, 6)]
    expected = torch.from_numpy(np.concatenate(batches)).permute(0, 3, 1, 2)
    assert sources.train[0].dtype == torch.uint8
    assert torch.equal(sources.train[0], expected)
    assert sources.test[1].tolist() == [3]


def test_cifar100_has_its_fine_labels(archives: dict[str, np.ndarray], tmp_path: Path) -> None:
    sources = load(Cifar100, tmp_path / "cache", root=tmp_path)
    assert (sources.train[1].tolist(), sources.test[1].tolist()) == ([0, 99], [7])
    expected = torch.from_numpy(archives["cifar-100-binary/test.bin"]).permute(0, 3, 1, 2)
    assert torch.equal(sources.test[0], expected)


def test_an_archive_is_downloaded_once(archives: dict[str, np.ndarray], tmp_path: Path) -> None:
    first = load(Cifar10, tmp_path / "cache")
    (tmp_path / "cifar-10-binary.tar.gz").unlink()
    assert torch.equal(load(Cifar10, tmp_path / "cache").train[0], first.train[0])


def test_another_archive_of_that_name_is_refused(archives: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"\x80\x04]\x94K\x01a.")
    with pytest.raises(CompressitError, match=r"root.*cifar-10-binary\.tar\.gz.*sha256"):
        load(Cifar10, tmp_path / "cache", root=tmp_path)


def test_class_names_are_the_archives() -> None:
    names = Cifar100(CifarConfig()).class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names), "the archive has them in alphabetical order"
    places = {"apple": 0, "bicycle": 8, "maple_tree": 47, "worm": 99}  # as many programs have them
    assert {name: names.index(name) for name in places} == places
    assert Cifar10(CifarConfig()).class_names.index("cat") == 3
