"""What one compressor leaves, another is given: every ordered pair of the built-ins ends in a file that reloads."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import fresh, save
from compressit.contract.compute import Compute
from compressit.contract.context import DataContext, StageContext
from compressit.contract.kinds import Compressor, Dataset
from compressit.datasets.preparation import prepare
from compressit.datasets.splits import Data
from compressit.errors import NoEffectError
from compressit.host.plugins import Host
from compressit.running.apply import apply_plugin
from compressit.seeds import Streams

from .elsewhere import fingerprint, holds_no_code, loaded_elsewhere

SHORT = {"epochs": 1, "batch_size": 32, "images": 64, "width": 0.7}
"""Options for plugins that have them and whose example leaves them open."""
SPARSE = ("prune.magnitude", "prune.sparse_momentum")
IDLE = {
    *itertools.product(SPARSE, SPARSE),  # the same half is already zero
    *itertools.product(SPARSE, ["factor.low_rank"]),  # a product would fill the zeros of every layer
    ("shrink.thin", "shrink.thin"),  # the same fresh net is already there
}
"""Pairs whose second step has nothing to do."""


@pytest.fixture
def data(tmp_path: Path) -> Data:
    options = {"shape": [1, 8, 8], "classes": 4, "train": 64, "test": 16}
    dataset = Host().create(Dataset, "data.synthetic", options)
    raw = dataset.load(DataContext(tmp_path, print))
    return prepare(raw, dataset.config, dataset.classes, dataset.class_names)


def test_every_ordered_pair_of_compressors_reloads_bit_equal_in_another_process(
    data: Data, tmp_path: Path
) -> None:
    host = Host()
    architecture = Architecture("model.convnet", {"channels": [24, 32]}, (1, 8, 8), 4)
    built_in = [r.plugin.name for r in host.registered("compressor") if r.owner.startswith("compressit ")]
    built_in.remove("prune.depth")  # this net has no residual blocks: tests/plugins/prune/test_depth.py
    assert len(built_in) >= 5
    net = fresh(architecture, 0, host)
    expected: dict[Path, dict[str, Any]] = {}
    idle: set[tuple[str, str]] = set()
    for first in built_in:
        once = _compressed(first, net, data, host)
        for second in built_in:
            try:
                twice = _compressed(second, once, data, host)
            except NoEffectError:
                idle.add((first, second))
                continue
            path = tmp_path / f"{first}-{second}.safetensors"
            save(twice, path, architecture, data.contract, host)
            assert holds_no_code(path)
            expected[path] = fingerprint(twice, path)
    assert idle == IDLE
    assert dict(zip(expected, loaded_elsewhere(list(expected)), strict=True)) == expected


def _compressed(name: str, model: nn.Module, data: Data, host: Host) -> nn.Module:
    """The model after one compressor; `model` stays as it is. Teachers are the model itself; `wide` is a net of twice
    the width."""
    plugin = host.find(name, "compressor").plugin
    open_options = {option: value for option, value in SHORT.items() if option in plugin.Config.model_fields}
    compressor = host.create(Compressor, name, {**open_options, **plugin.example})
    wide = Architecture("model.convnet", {"channels": [48, 64]}, (1, 8, 8), 4)

    def named(ref: str) -> nn.Module:
        return fresh(wide, 0, host) if ref == "wide" else copy.deepcopy(model)

    ctx = StageContext(Compute(), Streams(0, name), lambda: data, named)
    return apply_plugin(compressor, copy.deepcopy(model), ctx)
