from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST

from compressit.contract.context import DataContext
from compressit.datasets.sources import Sources
from compressit.errors import CompressitError
from compressit_plugins.data import fashion_mnist_files
from compressit_plugins.data.fashion_mnist import FashionMnist
from compressit_plugins.data.idx_images import IdxConfig
from compressit_plugins.data.mnist import Mnist
from compressit_plugins.data.published_files import File

CONTENTS = {
    "train-images-idx3-ubyte": bytes(16) + bytes(range(196)) * 8,
    "train-labels-idx1-ubyte": bytes(8) + b"\x09\x03",
    "t10k-images-idx3-ubyte": bytes(16) + b"\x07" * 784,
    "t10k-labels-idx1-ubyte": bytes(8) + b"\x01",
}


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files instead of the real ones, which no mirror has; on the path an `apt-get` that brings a package with
    them, and a `dpkg-deb` that shows it as a tarball. Returns the place of the installed package, which is empty."""
    files = {name: File(hashlib.sha256(value).hexdigest(), len(value)) for name, value in CONTENTS.items()}
    known = replace(fashion_mnist_files.FASHION_MNIST, files=files)
    monkeypatch.setattr(fashion_mnist_files, "FASHION_MNIST", known)
    monkeypatch.setattr(fashion_mnist_files, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(FashionMNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    tools = tmp_path / "bin"
    tools.mkdir()
    with tarfile.open(tools / "data.tar", "w") as tar:
        for name, content in CONTENTS.items():
            member, packed = tarfile.TarInfo(f".{tmp_path / 'installed' / name}.gz"), gzip.compress(content)
            member.size = len(packed)
            tar.addfile(member, io.BytesIO(packed))
    for name, text in {
        "apt-get": '[ "$1 $2" = "download dataset-fashion-mnist" ] && : > dataset-fashion-mnist_1_all.deb',
        "dpkg-deb": f'[ -f "$2" ] && /bin/cat "{tools}/data.tar"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    return tmp_path / "installed"


def load(cache: Path, announce: Callable[[str], None] = print, root: str | None = None) -> Sources:
    return FashionMnist(IdxConfig(root=root)).load(DataContext(cache, announce))


def test_debians_package_is_the_last_source_and_is_kept(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    for _ in range(2):
        sources = load(tmp_path / "cache", lines.append)
        assert sources.train[1].tolist() == [9, 3]
        assert sources.train[0].flatten().tolist() == list(CONTENTS["train-images-idx3-ubyte"][16:])
        assert torch.equal(sources.test[0], torch.full((1, 1, 28, 28), 7, dtype=torch.uint8))
        monkeypatch.setenv("PATH", "")  # the second time it is in the cache
    assert len(lines) == 1
    assert "dataset-fashion-mnist" in lines[0]
    assert {file.name for file in (tmp_path / "cache" / "fashion_mnist").glob("*idx*")} == set(CONTENTS)


def test_the_installed_package_needs_no_apt(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian.mkdir()
    for name, content in CONTENTS.items():
        (debian / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("PATH", "")
    assert load(tmp_path / "cache").test[1].tolist() == [1]


def test_without_any_source_the_message_says_what_was_tried(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompressitError, match=r"(?s)Fashion-MNIST.*nowhere.*apt-get.*t10k-images"):
        load(tmp_path / "cache")


def test_a_package_that_apt_does_not_have_is_said_in_apts_words(debian: Path, tmp_path: Path) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    with pytest.raises(CompressitError, match=r"apt-get failed \(E: Unable to locate package"):
        load(tmp_path / "cache")


def test_it_is_not_taken_for_mnist() -> None:
    ours, mnist = FashionMnist(IdxConfig()), Mnist(IdxConfig())
    assert ours.fingerprint() != mnist.fingerprint()
    assert list(ours.class_names) == FashionMNIST.classes
