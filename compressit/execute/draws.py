"""What a result depends on besides the plugins: which random stream each of a task's steps draws from.

Part of every key (`compressit.plan`), with `compressit.seeds`: whatever else the host does stays out of here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compressit.seeds import Streams

if TYPE_CHECKING:
    from compressit.config import Config


def building(seed: int) -> AbstractContextManager[None]:
    """The draws of a run's first weights: variants share them."""
    return seeded(Streams(seed).number("init"))


def acting(streams: Streams) -> AbstractContextManager[None]:
    """The draws of a trainer or compressor."""
    return seeded(streams.number("plugin"))


def measuring(streams: Streams) -> AbstractContextManager[None]:
    """The draws of an evaluator."""
    return seeded(streams.number("evaluate"))


def narrowing(streams: Streams) -> AbstractContextManager[None]:
    """The draws of a student's fresh weights."""
    return seeded(streams.number("student"))


def narrowed(
    config: Mapping[str, Any], times: int, narrower: Callable[[Mapping[str, Any]], Config | None]
) -> Mapping[str, Any] | None:
    """The options after narrowing `times` times over; None where they cannot become narrower."""
    for _ in range(times):
        found = narrower(config)
        if found is None:
            return None
        config = found.model_dump(mode="json")
    return config


@contextmanager
def seeded(number: int) -> Generator[None]:
    """A block whose global random numbers (torch's, numpy's, Python's) start from `number`.

    Afterwards they go on as if it had not been there.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
