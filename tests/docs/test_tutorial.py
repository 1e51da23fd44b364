"""docs/tutorial.md does what it says."""

from __future__ import annotations

from pathlib import Path

import torch
from blocks import blocks, run_line
from torchvision.models import resnet18

import compressit


def test_its_code_runs_in_order_and_halves_the_net(tmp_path: Path) -> None:
    for block in blocks("tutorial.md"):
        block.write(tmp_path)
    environment = {"COMPRESSIT_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    run_line("python smaller.py", tmp_path, environment)
    net = compressit.load(tmp_path / "small.safetensors")
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    ratio = sum(p.numel() for p in net.parameters()) / sum(
        p.numel() for p in resnet18(num_classes=10).parameters()
    )
    assert abs(ratio - 0.5) < 0.02
    for recipe in ("smaller", "recover"):
        assert "is fine" in run_line(f"compressit check {recipe}.yaml", tmp_path, environment)
