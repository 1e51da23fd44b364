"""examples/third_party_plugin, as if it were installed. CI installs it for real, from wheels (`.ci/run`)."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from compressit.host.plugins import Host
from compressit.recipe.load import load_recipe

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "third_party_plugin"
PLUGINS = {"quantize.ternary": "compressor", "eval.entropy": "evaluator", "model.normed": "model"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that finds the example through its entry point."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / f"compressit_ternary-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = "".join(
        f"{name} = {module}\n" for name, module in project["entry-points"]["compressit"].items()
    )
    (info / "entry_points.txt").write_text(f"[compressit]\n{entries}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)
    yield Host()
    for module in [name for name in sys.modules if name.startswith("compressit_ternary")]:
        del sys.modules[module]


def test_it_is_short_enough_to_read() -> None:
    files = list(EXAMPLE.rglob("*.py"))
    assert len(files) == 3
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 100


def test_it_is_found_through_its_entry_point_and_its_recipe_is_right(host: Host) -> None:
    found = {name: host.find(name) for name in PLUGINS}
    assert {name: registered.kind for name, registered in found.items()} == PLUGINS
    assert {registered.owner for registered in found.values()} == {"compressit-ternary 0.1.0"}
    (variant,) = load_recipe(EXAMPLE / "recipe.yaml", host=host).variants
    assert {use.uses for use in variant.evaluate} >= {"eval.entropy"}


def test_finding_it_imports_no_method(host: Host) -> None:
    assert "compressit_ternary.ternary" not in sys.modules


def test_weights_are_rounded_to_three_values_as_the_paper_says(host: Host) -> None:
    from compressit_ternary.ternary import round_weights  # type: ignore[import-not-found]

    model = nn.Sequential(nn.Linear(4, 1), nn.LayerNorm(1))
    model[0].weight.data = torch.tensor([[1.0, -3.0, 0.75, -0.1]])
    bias = model[0].bias.detach().clone()
    scales = round_weights(model, 0.7)  # mean size 1.2125, so the threshold is 0.849
    assert scales == {"0.weight": 2.0}
    assert model[0].weight.tolist() == [[2.0, -2.0, 0.0, 0.0]]
    assert torch.equal(model[0].bias, bias)
    assert model[0].weight.requires_grad


def test_bits_are_the_entropy_of_the_values(host: Host) -> None:
    from compressit_ternary.ternary import bits_per_weight  # type: ignore[import-not-found]

    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(2, 2))
    model[0].weight.data = torch.tensor([[2.0, -2.0, 0.0, 0.0]])  # 1/4, 1/4, 1/2: 1.5 bits
    model[1].weight.data = torch.tensor([[1.0, 1.0], [1.0, 1.0]])  # nothing to tell
    assert math.isclose(bits_per_weight(model), 0.75)
