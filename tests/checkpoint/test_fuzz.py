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


@pytest.mark.parametrize("seed", range(4))
def test_500_mutated_files_are_refused_or_load_as_what_they_say(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path, seed: int
) -> None:
    originals: list[Path] = []
    for architecture in (MLP, CONV, TIED, HEADS):
        originals.append(tmp_path / f"{architecture.name}.safetensors")
        model = make(architecture)
        if architecture is MLP:
            model[1] = host.module_types()[0].cls()(16, 3, 12)
        save(model, originals[-1], architecture, host=host, metrics={"test_accuracy": 0.5})
    sparse = make(CONV)
    for parameter in sparse.parameters():
        parameter.data[parameter.abs() < parameter.abs().quantile(0.8)] = 0
    originals.append(tmp_path / "compact.safetensors")
    save(sparse, originals[-1], CONV, host=host, compact=True)
    assert read_header(originals[-1]).manifest.compact
    save(many := Many(), several := tmp_path / "many.safetensors", contract=CONTRACT)
    given = {**dict.fromkeys(originals), several: many}
    refused = fuzz(given, host, range(500), seed, tmp_path / "mutated.safetensors")
    assert 350 < refused < 500  # most are refused; but forgeries reach the loader's end as well


def test_what_mutated_files_take_goes_with_their_size(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path
) -> None:
    originals: dict[Path, nn.Module | None] = {}
    for architecture in (MLP, CONV, HEADS):
        path = tmp_path / f"{architecture.name}.safetensors"
        save(make(architecture), path, architecture, host=host)
        originals[path] = None
    save(many := Many(), several := tmp_path / "many.safetensors", contract=CONTRACT)
    fuzz({**originals, several: many}, host, range(80), 7, tmp_path / "mutated.safetensors", measured=True)


def test_what_a_file_takes_is_measured() -> None:
    assert taken(lambda: str(torch.ones(100_000_000).numel())).memory > 350 * 10**6
    with pytest.raises(AssertionError, match="torn"):
        taken(_torn)


def _torn() -> str:
    raise ValueError("torn")
