from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_host
from torch import nn

from compressit.checkpoint.model import Architecture, build, save
from compressit.datasets.specs import TensorSpec
from compressit.host.plugins import Host

TINY = Path(__file__).parent.parent / "checkpoint" / "tiny_models.py"
CONV = Architecture("tiny.conv", {"channels": [8, 12]}, (2, 6, 6), 3)
TIED = Architecture("tiny.tied", {}, TensorSpec((7,), "int64", 0, 8), 9)
HEADS = Architecture("tiny.heads", {}, (8,), 4)


@pytest.fixture(scope="session")
def host() -> Host:
    host = tiny_host()
    host.load_file(TINY)
    return host


@pytest.fixture
def saved(host: Host, tmp_path: Path) -> Callable[..., Path]:
    """Saves a model of random weights, a part of them zero, under `tmp_path/net.safetensors`."""

    def saved(architecture: Architecture, zeros: float = 0.0, **about: Any) -> Path:
        torch.manual_seed(3)
        model: nn.Module = build(architecture, host)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter[torch.rand(parameter.shape) < zeros] = 0.0
        path = tmp_path / "net.safetensors"
        save(model, path, architecture, host=host, **about)
        return path

    return saved
