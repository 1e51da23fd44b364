"""Which random stream each step of a job draws from. Results depend on it, as they depend on the plugins.

Its code is part of every key (`compressit.planning.graph`), like `compressit.seeds`; keep other host code out of here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from compressit.seeds import Streams, seeded

if TYPE_CHECKING:
    from compressit.config import Config


def lent(name: str) -> AbstractContextManager[None]:
    """The default stream of the plugin `name`, if none of the ones below applies; for example a loading dataset."""
    return seeded(Streams(0, name).number("lent"))


def building(seed: int, draw: int = 0) -> AbstractContextManager[None]:
    """The stream of a run's initial weights, which variants share, and its other draws."""
    return seeded(Streams(seed).number("init", draw or None))


def acting(streams: Streams) -> AbstractContextManager[None]:
    """The stream of a trainer or compressor."""
    return seeded(streams.number("plugin"))


def judging(seed: int, name: str) -> Streams:
    """The streams of the evaluator `name`: those of no stage or round, so that its numbers of all models compare."""
    return Streams(seed, name)


def measuring(streams: Streams) -> AbstractContextManager[None]:
    """The stream of an evaluator."""
    return seeded(streams.number("evaluate"))


def narrowing(streams: Streams, draw: int = 0) -> AbstractContextManager[None]:
    """The stream of a student's fresh weights, and its other draws."""
    return seeded(streams.number("student", draw or None))


def narrowed(
    config: Mapping[str, Any], times: int, narrower: Callable[[Mapping[str, Any]], Config | None]
) -> Mapping[str, Any] | None:
    """The options after narrowing `times` times; None if they cannot get narrower."""
    for _ in range(times):
        found = narrower(config)
        if found is None:
            return None
        config = found.model_dump(mode="json")
    return config
