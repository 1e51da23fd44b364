"""Fixtures that several test modules share; folders below add their own."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from hypothesis import settings
from tiny import Bench
from torch import Tensor, nn

from compressit.contract.compute import Compute, forks_compute
from compressit.contract.context import StageContext
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import Data
from compressit.host.plugins import installed
from compressit.seeds import Streams

torch.set_num_threads(1)  # tiny tensors, several workers

# Times on a shared machine say nothing; the examples are the same in every run.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")

# What a suite started by nohup or in the background ignores, the commands that it starts would ignore too.
for _number, _handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

_NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=_NEEDS_CUDA)])
def device(request: pytest.FixtureRequest) -> str:
    """Where a test computes: on the CPU and, where there is one, once more on a GPU."""
    return request.param


@pytest.fixture
def raw() -> Sources:
    """50 training and 20 test images of 2x3x3 uint8 pixels (channel 1 brighter), 4 classes."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        dark = torch.randint(0, 100, (count, 1, 3, 3), generator=generator)
        bright = torch.randint(50, 256, (count, 1, 3, 3), generator=generator)
        return torch.cat([dark, bright], 1).to(torch.uint8)

    return Sources((images(50), torch.arange(50) % 4), (images(20), torch.arange(20) % 4))


@pytest.fixture
def make_context(raw: Sources) -> Callable[..., StageContext]:
    """Builds a context on `raw` (or on `data`, on that device) whose references are the given models."""

    def make(
        models: Mapping[str, nn.Module] | None = None,
        data: Data | None = None,
        device: str = "cpu",
        **fields: Any,
    ) -> StageContext:
        known = dict(models or {})
        own = data or prepare(raw, DataConfig(), 4, ("a", "b", "c", "d"), device)
        values: dict[str, Any] = {
            "compute": Compute.select(device),
            "streams": Streams(0, "train"),
            "load_data": lambda: own,
            "load_model": known.__getitem__,
        }
        return StageContext(**{**values, **fields})

    return make


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """Runs carry out their jobs in this process and draw no real report, until the test is over."""
    bench = Bench()
    monkeypatch.setattr("compressit.running.session.Runner", bench.runner)
    monkeypatch.setattr(
        "compressit.results.runfolder.RunFolder._draw", lambda folder, *files: bench.draw(folder, *files)
    )
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return bench


@pytest.fixture(scope="module")
def warm_workers() -> Iterator[None]:
    """Workers, and all Python processes that a test starts, are forks of this one: they need no time to import torch.

    For tests of what processes do, not of how they start. Where there is a GPU they start anew: a fork of a process
    that has looked for one cannot use it. So they do where an earlier test made forks useless.
    """
    torch.ones(1, requires_grad=True).sum().backward()  # after some exports the next gradient starts threads
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available() and forks_compute():
            patch.setattr("subprocess.Popen", warm.Forked)
        yield


# What `pip install compressit[EXTRA]` brings, by extra.
_EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "search": ("optuna",),
    "timm": ("timm",),
    "tensorboard": ("tensorboard",),
    "mnist1d": ("mnist1d",),
    "notebook": ("nbclient", "ipykernel"),
}


def _require_extras(item: pytest.Item) -> None:
    """Skips a test marked `extra("name")` where that extra is not installed; in CI, with
    COMPRESSIT_REQUIRE_EXTRAS, that is a failure."""
    for mark in item.iter_markers("extra"):
        missing = [name for name in _EXTRAS[mark.args[0]] if importlib.util.find_spec(name) is None]
        if missing:
            told = f"compressit[{mark.args[0]}] is not installed here ({', '.join(missing)} missing)"
            (pytest.fail if os.environ.get("COMPRESSIT_REQUIRE_EXTRAS") else pytest.skip)(told)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The core's own tests run with the built-ins blocked: nothing in it may need them."""
    _require_extras(item)
    about_built_ins = {"plugins", "cli", "docs", "examples", "test_readme.py"}
    wanted = "" if item.path.relative_to(Path(__file__).parent).parts[0] in about_built_ins else "*"
    if os.environ.get("COMPRESSIT_DISABLE_PLUGINS") != wanted:
        os.environ["COMPRESSIT_DISABLE_PLUGINS"] = wanted
        installed.cache_clear()
