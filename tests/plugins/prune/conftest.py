"""Fixtures of the pruning tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_catches_a_time_limit() -> Iterator[None]:
    """`prune.tracing` throws an exception into the thread that takes too long. Where it meets a callback of the garbage
    collector, as hypothesis has one, Python swallows it there and pytest calls that a failure; it is thrown again."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks.extend(callbacks)
