"""A desk for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

from .known import Desk


@pytest.fixture
def desk(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A new one. Jobs are told in the file `log`."""
    monkeypatch.setenv("SEARCH_LOG", str(tmp_path / "log"))
    return Desk(tmp_path, bench)
