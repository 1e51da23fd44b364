"""Fixtures of the built-ins' tests: small data, a narrower student, the real MNIST."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressit.contract.context import DataContext, Progress
from compressit.datasets.splits import Data, RawData, prepare
from compressit.errors import CompressitError
from compressit.paths import default_cache
from compressit_plugins.data.mnist import Mnist, MnistConfig
from compressit_plugins.data.synthetic import Synthetic, SyntheticConfig
from compressit_plugins.models.mlp import Mlp, MlpConfig


class Killed(Exception):
    """Raised right after a state was saved."""


class KilledAfter(Progress):
    """Saves at every epoch's end and, the first time `epochs` are done, kills the stage."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.saved: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved

    def due(self) -> bool:
        return True

    def save(self, tensors: Any, facts: Any) -> None:
        resumed = self.saved is not None and self.saved[1]["epoch"] >= self.epochs
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.saved = (copies, {**facts, "curves": dict(facts["curves"]), "notes": dict(facts["notes"])})
        if facts["epoch"] == self.epochs and not resumed:
            raise Killed


@pytest.fixture
def killed_after() -> Callable[[int], KilledAfter]:
    """A progress that kills the stage, raising `Killed`, once that many epochs are done and saved."""
    return KilledAfter


@pytest.fixture
def killed() -> type[Exception]:
    """What a `killed_after` progress raises."""
    return Killed


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., Data]:
    """`data.synthetic` with these options, prepared as the host does, on that device."""

    def make(device: str = "cpu", **options: Any) -> Data:
        dataset = Synthetic(SyntheticConfig(**options))
        raw = dataset.load(DataContext(tmp_path, print))
        return prepare(raw, dataset.config, dataset.classes, dataset.class_names, device)

    return make


@pytest.fixture
def build_mlp() -> Callable[..., nn.Module]:
    """A seeded `model.mlp` for inputs of 1x8x8 and 10 classes; each call builds the same one."""

    def build(*hidden: int, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return Mlp(MlpConfig(hidden=hidden or (16,))).build((1, 8, 8), 10)

    return build


@pytest.fixture
def narrow_mlp() -> Callable[[int], Callable[[float, int], nn.Module]]:
    """The context's `narrow` for a stage that is given a `model.mlp` of that width."""

    def of(width: int) -> Callable[[float, int], nn.Module]:
        def narrow(multiplier: float, times: int) -> nn.Module:
            config = MlpConfig(hidden=(width,))
            for _ in range(times):
                config = Mlp(config).with_width(multiplier)
            torch.manual_seed(1)
            return Mlp(config).build((1, 8, 8), 10)

        return narrow

    return of


@pytest.fixture(scope="session")
def mnist_cache() -> Path:
    """The user's cache folder with MNIST in it. Skips when it cannot be had; with COMPRESSIT_REQUIRE_DATA
    (in CI) that is a failure."""
    cache = default_cache()
    try:
        Mnist(MnistConfig()).load(DataContext(cache, print))
    except CompressitError as error:
        if os.environ.get("COMPRESSIT_REQUIRE_DATA"):
            pytest.fail(f"the tests on real data may not be skipped here: {error}")
        pytest.skip(str(error))
    return cache


@pytest.fixture(scope="session")
def mnist(mnist_cache: Path) -> RawData:
    """The real MNIST."""
    return Mnist(MnistConfig()).load(DataContext(mnist_cache, print))
