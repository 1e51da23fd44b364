"""examples/halve_and_recover.yaml, quick: half the MACs, files that onnxruntime runs, and a time in each runtime."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.host.plugins import installed

RECIPE = Path(__file__).parent.parent.parent / "examples" / "halve_and_recover.yaml"


@pytest.mark.extra("onnx")
def test_the_files_in_exports_are_half_the_net_and_every_runtime_has_a_time(
    tmp_path: Path, bench: Bench
) -> None:
    recipe = compressit.load_recipe(RECIPE, host=installed(), profile="quick", settings=["compute.threads=1"])
    run = compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store")
    train, recover = run.row("train"), run.row("recover")
    assert recover.metrics["macs"] == pytest.approx(train.metrics["macs"] / 2, rel=0.02)
    assert recover.metrics["onnx_bytes"] < 0.8 * train.metrics["onnx_bytes"]
    assert recover.metrics["int8_bytes"] < 0.4 * recover.metrics["onnx_bytes"]
    for runtime in ("", "onnxruntime_", "onnxruntime_int8_"):
        assert recover.metrics[f"latency_8_{runtime}median_seconds"] > 0
    session = importlib.import_module("onnxruntime").InferenceSession
    for name in ("net.onnx", "net.int8.onnx"):
        assert session(run.folder / recover.files[name].file).get_inputs()[0].shape == ["batch", 3, 32, 32]
    assert "half" not in {row.name for row in run.results.rows if row.files}
