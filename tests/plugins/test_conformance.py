"""Every built-in keeps the contract that third parties are held to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compressit.host.plugins import installed
from compressit.testing import parametrize

BUILT_IN = [found.plugin.name for found in installed().registered() if found.owner.startswith("compressit ")]
FILES = ("data.folder", "data.tensors", "data.fashion_mnist", "data.cifar10", "data.cifar100")
"""Those need files, or download much: their own tests."""
EXTRAS = ("model.timm", "data.mnist1d", "observe.tensorboard", "eval.onnx")  # those need extras: below
PLAIN = [name for name in BUILT_IN if name not in (*EXTRAS, *FILES)]


pytestmark = pytest.mark.usefixtures("warm_workers")

IN_WORKERS = {
    "data.mnist", "model.convnet", "train.supervised", "shrink.noise", "prune.structured", "eval.fidelity",
    "report.twins",
}  # fmt: skip
"""Those that make a whole run in workers here, which takes long: some of each kind. The tests of their recipes run
the others so."""
CASES = [
    case
    for name in PLAIN
    for case in parametrize(name, device="auto").args[1]  # on a GPU where there is one
    if name in IN_WORKERS or str(case.id).rpartition("-")[2] not in ("no_pickle", "runs_under_jobs")
]


@pytest.mark.parametrize("check", CASES)
def test_it_conforms(check: Callable[[], None], request: pytest.FixtureRequest) -> None:
    if "data.mnist" in request.node.name:
        request.getfixturevalue("mnist_cache")  # skips where the files cannot be had
    check()


@pytest.mark.extra("timm")
@parametrize("model.timm", device="auto")
def test_timm_conforms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.extra("tensorboard")
@parametrize("observe.tensorboard")
def test_tensorboard_conforms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.extra("onnx")
@parametrize("eval.onnx")
def test_onnx_conforms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.extra("mnist1d")
@parametrize("data.mnist1d", device="auto")
def test_mnist1d_conforms(check: Callable[[], None]) -> None:
    check()
