"""The notebook of examples/ runs from its first cell to its last, at a small size, and shows what it promises."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent.parent / "examples" / "compare.ipynb"
SIZE, SMALL = "limit, seeds, epochs = 2000, [0, 1, 2], 2", "limit, seeds, epochs = 300, [0, 1], 1"


@pytest.mark.extra("notebook")
def test_the_notebook_runs_and_shows_table_and_picture(
    mnist_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nbformat
        from nbclient import NotebookClient

    shutil.copytree(mnist_cache / "mnist", tmp_path / "cache" / "mnist")
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    (sized,) = [cell for cell in notebook.cells if SIZE in cell.source]
    sized.source = sized.source.replace(SIZE, SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output["data"] for output in shown if "data" in output]
    assert any("scratch-half" in d.get("text/html", "") for d in data)
    assert any("image/png" in d for d in data)
    assert (tmp_path / "comparison.html").stat().st_size > 10_000
    assert not [output for output in shown if output["output_type"] == "error"]
