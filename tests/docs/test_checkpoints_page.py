"""docs/checkpoints.md: every block is run, in its order, in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import blocks, run_line, shows

PAGE = "checkpoints.md"


@pytest.mark.parametrize("onnx", [False, pytest.param(True, marks=pytest.mark.extra("onnx"))])
def test_every_block_runs_and_prints_what_the_page_shows(onnx: bool, tmp_path: Path) -> None:
    environment = {
        "COMPRESSIT_STORE": str(tmp_path / "store"),
        "COMPRESSIT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": "",
    }
    printed = ""
    for block in blocks(PAGE):
        if block.title:
            block.write(tmp_path)
        elif block.language == "sh":
            lines = [line for line in block.text.splitlines() if onnx or "--to onnx" not in line]
            printed = "".join(run_line(line, tmp_path, environment) for line in lines)
        else:
            assert block.language == "text", f"a {block.language} block that is no file"
            for line in block.text.splitlines():
                if onnx or "onnx" not in line:
                    assert shows(printed, line), f"not printed: {line}\n{printed}"
    assert "Traceback" not in printed
    published = {file.name for file in (tmp_path / "published").iterdir()}
    assert published == {"model.safetensors", "config.json", "README.md"}
    assert (tmp_path / "sparse.safetensors").stat().st_size < 76_840 / 4
