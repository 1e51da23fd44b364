"""A file written with the first format loads for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from compressit.checkpoint.header import verify
from compressit.checkpoint.model import architecture_of, contract_of, load
from compressit.datasets.splits import InputSpec
from compressit.host.plugins import Host

GOLDEN = Path(__file__).with_name("golden")
SHA256 = "e3b76870410644797cf9b3666080f1d40b0bcac72fda65c1d04d0655bf32e98c"


def test_the_file_is_the_one_that_was_committed() -> None:
    assert hashlib.sha256((GOLDEN / "v1.safetensors").read_bytes()).hexdigest() == SHA256


def test_a_file_of_format_1_loads_and_computes_what_it_did() -> None:
    expected = json.loads((GOLDEN / "v1.json").read_text(encoding="utf-8"))
    model = load(GOLDEN / "v1.safetensors", host=Host())
    x = torch.tensor(expected["x"]).reshape(expected["shape"])
    with torch.no_grad():
        torch.testing.assert_close(model(x), torch.tensor(expected["y"]), rtol=0, atol=1e-5)
    assert (model.conv1.out_channels, model.conv2.weight.shape) == (4, (5, 4, 3, 3))
    assert int((model.conv2.weight == 0).sum()) == 90  # of 180


def test_everything_a_file_of_format_1_says_of_itself_is_understood() -> None:
    path = GOLDEN / "v1.safetensors"
    manifest = verify(path).manifest
    assert manifest.format == 1
    assert [step["stage"] for step in manifest.lineage] == ["train", "prune"]
    assert manifest.metrics == {"test_accuracy": 0.75}
    assert manifest.parameters == 4 * 9 + 4 * 2 + 5 * 4 * 9 + 5 * 2 + 5 * 3 + 3
    assert contract_of(path) == InputSpec((1, 8, 8), "standard", (0.25,), (0.5,), ("cat", "dog", "hen"))
    architecture = architecture_of(path)
    assert architecture is not None
    assert (architecture.name, architecture.config) == ("model.convnet", {"channels": [6, 8]})
    assert architecture.edited
