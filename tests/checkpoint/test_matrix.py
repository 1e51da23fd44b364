"""Four of torchvision's architectures, pruned and loaded elsewhere; all of them: benchmarks/checkpoint_matrix.py."""

from __future__ import annotations

from pathlib import Path

import torch

from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import architecture_of, build, save
from compressit.host.plugins import Host
from compressit_plugins.prune.channels import prune_channels

from .elsewhere import fingerprint, holds_no_code, loaded_elsewhere

SMALL = ("mobilenet_v3_small", "regnet_x_400mf", "resnet18", "squeezenet1_1")
"""Depthwise and grouped convolutions, residual and joined branches, gates, a classifier that is a convolution."""


def test_pruned_architectures_come_back_bit_equal_in_another_process(tmp_path: Path) -> None:
    host, shape = Host(), (3, 32, 32)
    expected = {}
    for name in SMALL:
        architecture = Architecture("model.torchvision", {"name": name}, shape, 10)
        torch.manual_seed(0)
        model = build(architecture, host)
        before = sum(p.numel() for p in model.parameters())
        model, _ = prune_channels(model, torch.zeros(1, *shape), 0.5)
        assert sum(p.numel() for p in model.parameters()) < 0.5 * before, name
        path = tmp_path / f"{name}.safetensors"
        save(model, path, architecture, host=host)
        assert architecture_of(path).edited, name  # type: ignore[union-attr]
        assert holds_no_code(path), name
        expected[name] = fingerprint(model, path)
    paths = [tmp_path / f"{name}.safetensors" for name in SMALL]
    assert dict(zip(SMALL, loaded_elsewhere(paths), strict=True)) == expected
