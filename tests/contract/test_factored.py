"""Products of layers: what a file may say of them, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compressit.checkpoint.model import load, save
from compressit.contract.factored import Factored, built, described
from compressit.errors import CompressitError

LINEAR = {"kind": "Linear", "in_features": 6, "out_features": 2, "bias": False}


def test_it_is_built_again_as_it_was_described() -> None:
    pair = Factored(
        nn.Conv2d(
            3, 2, (3, 1), stride=2, padding="valid", dilation=(1, 2), padding_mode="reflect", bias=False
        ),
        nn.Conv2d(2, 8, 1),
    )
    again = built(described(pair))
    again.load_state_dict(pair.state_dict())
    assert repr(again) == repr(pair)
    x = torch.rand(2, 3, 9, 9)
    assert torch.equal(again(x), pair(x))


def test_without_a_builder_a_file_replaces_the_layers_of_the_given_net(tmp_path: Path) -> None:
    def plain() -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 3))

    small = plain()
    small[0][0] = Factored(nn.Linear(6, 2, bias=False), nn.Linear(2, 5))
    save(small.eval(), tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors", into=plain())
    assert isinstance(again[0][0], Factored)
    assert torch.equal(again(torch.ones(1, 6)), small(torch.ones(1, 6)))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"layers": []},
        {"layers": [LINEAR], "more": 1},
        {"layers": [{**LINEAR, "device": "meta"}]},
        {"layers": [{**LINEAR, "kind": "Module"}]},
        {"layers": [{**LINEAR, "kind": []}]},
        {"layers": ["Linear"]},
    ],
    ids=str,
)
def test_other_arguments_are_refused(arguments: Any) -> None:
    with pytest.raises(CompressitError):
        built(arguments)


def test_a_product_of_other_layers_cannot_be_saved() -> None:
    with pytest.raises(CompressitError, match="it holds a ReLU"):
        described(Factored(nn.Linear(2, 2), nn.ReLU()))
