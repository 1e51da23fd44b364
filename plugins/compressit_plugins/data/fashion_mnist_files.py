"""Where Fashion-MNIST's files are: torchvision's mirrors, or Debian's package."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

from compressit_plugins.data.published_files import (
    Contents,
    File,
    Published,
    Unavailable,
    asking,
    fetched,
    unpacked,
)

DEBIAN_PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # where that package puts its files
_SECONDS_FOR_APT = 300.0


def from_mirrors(published: Published, announce: Callable[[str], None]) -> Contents:
    """The four files from torchvision's mirrors. Raises Unavailable."""
    from torchvision.datasets import FashionMNIST

    return fetched(published, FashionMNIST.mirrors, ".gz")


def from_debian(published: Published, announce: Callable[[str], None]) -> Contents:
    """The four files of Debian's package: the installed one, else downloaded with `apt-get`, which installs nothing.

    Raises Unavailable.
    """
    import subprocess
    import tarfile
    import tempfile

    announce(
        f"Fashion-MNIST: torchvision's mirrors cannot be reached; using Debian's {DEBIAN_PACKAGE} instead"
    )
    if INSTALLED.is_dir():
        return published.read(INSTALLED)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("apt-get and dpkg-deb are not installed")
    with tempfile.TemporaryDirectory(prefix="compressit-") as folder:

        def run(*command: str) -> bytes:
            done = subprocess.run(
                command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS_FOR_APT
            )
            return done.stdout

        with asking("apt-get"):
            run("apt-get", "download", DEBIAN_PACKAGE)
            package = next(Path(folder).glob(f"{DEBIAN_PACKAGE}_*.deb"))
            tarball = io.BytesIO(run("dpkg-deb", "--fsys-tarfile", str(package)))
            with tarfile.open(fileobj=tarball, mode="r:") as archive:
                contents = unpacked(published, archive, f".{INSTALLED}/{{name}}.gz")
    return published.verified(contents, f"Debian's {DEBIAN_PACKAGE}")


FASHION_MNIST = Published(
    title="Fashion-MNIST",
    plugin="data.fashion_mnist",
    files={
        "train-images-idx3-ubyte": File(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 16 + 60_000 * 784
        ),
        "train-labels-idx1-ubyte": File(
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 8 + 60_000
        ),
        "t10k-images-idx3-ubyte": File(
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 16 + 10_000 * 784
        ),
        "t10k-labels-idx1-ubyte": File(
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 8 + 10_000
        ),
    },
    sources=(from_mirrors, from_debian),
)
