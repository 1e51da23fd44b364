from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import save
from compressit.host.plugins import Host

from .child import taken
from .fuzzing import fuzz
from .layers import CONTRACT, Many
from .samples import CONV, HEADS, MLP, TIED


@pytest.fixture
def originals(make: Callable[..., nn.Module], host: Host, tmp_path: Path) -> dict[Path, nn.Module | None]:
    """Files of many kinds, with the net that one of them is for."""
    found: dict[Path, nn.Module | None] = {}
    for architecture in (MLP, CONV, TIED, HEADS):
        path = tmp_path / f"{architecture.name}.safetensors"
        model = make(architecture)
        if architecture is MLP:
            model[1] = host.module_types()[-1].cls()(16, 3, 12)
        save(model, path, architecture, host=host, metrics={"test_accuracy": 0.5})
        found[path] = None
    sparse, path = make(CONV), tmp_path / "compact.safetensors"
    for parameter in sparse.parameters():
        parameter.data[parameter.abs() < parameter.abs().quantile(0.8)] = 0
    save(sparse, path, CONV, host=host, compact=True)
    assert read_header(path).manifest.compact
    save(many := Many(), several := tmp_path / "many.safetensors", contract=CONTRACT)
    return {**found, path: None, several: many}


@pytest.mark.parametrize("seed", range(4))
def test_500_mutated_files_are_refused_or_load_as_what_they_say(
    originals: dict[Path, nn.Module | None], host: Host, tmp_path: Path, seed: int
) -> None:
    refused = fuzz(originals, host, range(500), seed, tmp_path / "mutated.safetensors")
    assert 350 < refused < 500  # most are refused; but forgeries reach the loader's end as well


def test_what_mutated_files_take_goes_with_their_size(
    originals: dict[Path, nn.Module | None], host: Host, tmp_path: Path
) -> None:
    fuzz(originals, host, range(80), 7, tmp_path / "mutated.safetensors", measured=True)
    assert taken(lambda: str(torch.ones(100_000_000).numel())).memory > 350 * 10**6, "it is measured"


def test_work_that_fails_is_told() -> None:
    with pytest.raises(AssertionError, match="division"):
        taken(lambda: str(1 / 0))
