"""docs/comparing.md: what it shows of Python runs as it stands, and is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blocks import blocks

PAGE = "comparing.md"


def test_the_session_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    (code,) = [b.text for b in blocks(PAGE) if b.language == "python" and "compressit.compare(" in b.text]
    found: dict[str, Any] = {}
    exec(compile(code, PAGE, "exec"), found)
    said = capsys.readouterr().out
    assert all(name in said for name in ("original", "half", "mine", "scratch-half", "longer"))
    assert found["small"][1].out_features < 32
    assert found["net"][1].out_features == 32
    assert list((tmp_path / "cache" / "nets").glob("*.safetensors"))
