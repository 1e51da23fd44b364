"""What a result depends on besides the plugins: which random stream each of a job's steps draws from.

Part of every key (`compressit.planning.plan`), with `compressit.seeds`: whatever else the host does stays out of here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from compressit.seeds import Streams, seeded

if TYPE_CHECKING:
    from compressit.config import Config


def lent(name: str) -> AbstractContextManager[None]:
    """The draws of whatever code the plugin `name` runs when nothing below says otherwise: a dataset that loads."""
    return seeded(Streams(0, name).number("lent"))


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
