"""MNIST-1D's examples, made by its package."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def made(train: int, test: int, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The first `train` examples and the `test` ones behind them: float32 inputs (n, 1, 40) and int64 labels (n,).

    The package makes as many of each of the ten classes, so of the last ones up to nine are left away.
    """
    package: Any = importlib.import_module("mnist1d.data")
    known = package.get_dataset_args(as_dict=True) | {
        "num_samples": 10 * math.ceil((train + test) / 10),
        "seed": seed,
    }
    with _generators_kept():  # the package seeds them
        given = package.make_dataset(_Options(known))
    x = torch.from_numpy(np.concatenate([given["x"], given["x_test"]])).float()[:, None]
    y = torch.from_numpy(np.concatenate([given["y"], given["y_test"]])).long()
    return (x[:train], y[:train]), (x[train : train + test], y[train : train + test])


class _Options:
    """The package reads its options as attributes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.__dict__.update(options)


@contextmanager
def _generators_kept() -> Generator[None]:
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
