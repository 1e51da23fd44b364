from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_host
from torch import nn

from compressit.checkpoint.model import Architecture, build, load, save
from compressit.host.plugins import Host

from .samples import MLP, TINY


@pytest.fixture(scope="session")
def host() -> Host:
    """A host that knows the tiny plugins and the models of the local plugin file beside the tests."""
    host = tiny_host()
    host.load_file(TINY)
    return host


@pytest.fixture
def make(host: Host) -> Callable[..., nn.Module]:
    """Builds a model whose state looks trained: no value as a builder leaves it."""

    def make(architecture: Architecture, seed: int = 1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = build(architecture, host)
        for value in (*model.parameters(), *(b for n, b in model.named_buffers() if n in model.state_dict())):
            if value.is_floating_point():
                value.data = torch.rand(value.shape, generator=generator) * 0.5 + 0.05
            else:
                value.data = torch.full_like(value, 3)
        return model

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a checkpoint may be written."""
    return tmp_path / "m.safetensors"


@pytest.fixture
def again(host: Host, path: Path) -> Callable[[nn.Module, Architecture], nn.Module]:
    """Saves a model at `path`, and loads it."""

    def again(model: nn.Module, architecture: Architecture) -> nn.Module:
        save(model, path, architecture, host=host)
        return load(path, host=host)

    return again


@pytest.fixture
def saved(make: Callable[..., nn.Module], host: Host, tmp_path: Path) -> Path:
    """A small MLP's checkpoint."""
    path = tmp_path / "mlp.safetensors"
    save(make(MLP), path, MLP, host=host, lineage=[{"stage": "train", "uses": "train.x", "seed": 0}])
    return path
