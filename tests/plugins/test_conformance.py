"""Every built-in keeps the contract that third parties are held to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compressit.host.plugins import installed
from compressit.testing import parametrize

BUILT_IN = [found.plugin.name for found in installed().registered() if found.owner.startswith("compressit ")]
PLAIN = [name for name in BUILT_IN if name != "model.timm"]  # that one needs an extra: below


@parametrize(*PLAIN, device="auto")  # on a GPU where there is one
def test_it_conforms(check: Callable[[], None], request: pytest.FixtureRequest) -> None:
    if "data.mnist" in request.node.name:
        request.getfixturevalue("mnist_cache")  # skips where the files cannot be had
    check()


@pytest.mark.extra("timm")
@parametrize("model.timm", device="auto")
def test_timm_conforms(check: Callable[[], None]) -> None:
    check()
