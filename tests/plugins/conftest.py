"""Fixtures of the built-ins' tests: what they work with, the real MNIST."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from plugin_lab import Killed, KilledAfter, Lab
from torch import nn

from compressit.contract.context import DataContext, StageContext
from compressit.datasets.sources import Sources
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.paths import default_cache
from compressit_plugins.data.idx_images import IdxConfig
from compressit_plugins.data.mnist import Mnist


@pytest.fixture
def lab(make_context: Callable[..., StageContext], tmp_path: Path) -> Lab:
    """Small data, nets and contexts."""
    return Lab(make_context, tmp_path)


@pytest.fixture
def synthetic(lab: Lab) -> Callable[..., Data]:
    return lab.data


@pytest.fixture
def build_mlp(lab: Lab) -> Callable[..., nn.Module]:
    return lab.mlp


@pytest.fixture
def killed_after() -> type[KilledAfter]:
    """A progress that kills the stage, raising `killed`, once that many epochs are done and saved."""
    return KilledAfter


@pytest.fixture
def killed() -> type[Exception]:
    return Killed


@pytest.fixture(scope="session")
def mnist_cache() -> Path:
    """The user's cache folder with MNIST in it. Skips when it cannot be had; with COMPRESSIT_REQUIRE_DATA
    (in CI) that is a failure."""
    cache = default_cache()
    try:
        Mnist(IdxConfig()).load(DataContext(cache, print))
    except CompressitError as error:
        if os.environ.get("COMPRESSIT_REQUIRE_DATA"):
            pytest.fail(f"the tests on real data may not be skipped here: {error}")
        pytest.skip(str(error))
    return cache


@pytest.fixture(scope="session")
def mnist(mnist_cache: Path) -> Sources:
    """The real MNIST."""
    return Mnist(IdxConfig()).load(DataContext(mnist_cache, print))
