"""What the README shows works as it stands: its recipe, its plugin, its Python lines (at a tiny size)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compressit.config import parse
from compressit.errors import Problem, RecipeError
from compressit.host.plugins import Host, installed
from compressit.public import EXPORTS
from compressit.recipe.load import load_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_FILES = {  # how many of yours they need: images, weights
    "halve_and_recover.yaml": 2,
    "resnet20_cifar10jpeg.yaml": 2,
    "twins_cifar10jpeg.yaml": 1,
}


def block(language: str, containing: str) -> str:
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in b]
    assert len(found) == 1
    return found[0]


def test_the_recipe_is_valid_and_has_twelve_lines_at_most(tmp_path: Path) -> None:
    text = block("yaml", "name: first")
    assert len(text.strip().splitlines()) <= 12
    (tmp_path / "first.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "first.yaml", host=installed())
    assert [len(stage.members) for stage in recipe.variants[0].stages] == [1, 3, 1]
    assert recipe.seeds == (0, 1, 2)


def test_the_plugin_has_fifteen_lines() -> None:
    assert sum(bool(line.strip()) for line in block("python", "noise.add").splitlines()) == 15


def test_the_plugin_changes_every_weight_the_same_way_twice(tmp_path: Path) -> None:
    import copy

    import torch
    from torch import nn

    from compressit.contract.compute import Compute
    from compressit.contract.context import StageContext
    from compressit.seeds import Streams

    (tmp_path / "mine.py").write_text(block("python", "noise.add"))
    host = Host(entry_points=False)
    host.load_file(tmp_path / "mine.py")
    plugin = host.find("noise.add", "compressor").plugin
    net = nn.Linear(50, 40)

    def run() -> torch.Tensor:
        ctx = StageContext(Compute(), Streams(0, "noise"), pytest.fail, pytest.fail)
        compressor = plugin(parse(plugin.Config, {"scale": 0.5}))
        return compressor.compress(copy.deepcopy(net), ctx).weight.detach()  # type: ignore[attr-defined]

    added = run() - net.weight.detach()
    assert torch.equal(run(), run())
    assert abs(float(added.std()) - 0.5) < 0.05


def test_a_net_of_torchvision_is_made_smaller_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import compressit

    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(block("python", "torchvision.models"), "README.md", "exec"), found)
    again = compressit.load("small.safetensors")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(x), found["small"].eval()(x))
    size = {net: compressit.evaluate(found[net], found["data"], "eval.size") for net in ("net", "small")}
    assert abs(size["small"]["macs"] / size["net"]["macs"] - 0.5) < 0.02


def test_strategies_are_compared_in_ten_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but on ready-made data, with fewer seeds and without the controls."""
    import compressit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    tiny = partial(compressit.data, "data.synthetic", shape=[1, 28, 28])
    monkeypatch.setattr(compressit, "data", lambda name, limit, validation: tiny(validation=validation))
    saved, lines = block("python", "my.mlp"), block("python", "compressit.compare(")
    assert len(re.sub(r"\(\n.*?\n\)", "", lines, flags=re.S).split("\n")) <= 10
    found: dict[str, Any] = {"__name__": "readme"}
    exec(compile(saved.replace("epochs=10", "epochs=1"), "README.md", "exec"), found)
    small = lines.replace("seeds=[0, 1, 2],", "seeds=[0, 1], controls=False,")
    exec(compile(small, "README.md", "exec"), found)
    said = capsys.readouterr().out
    assert "sparse" in said
    assert "half" in said
    assert found["best"] in (None, "half", "sparse")
    assert (tmp_path / "comparison.html").stat().st_size > 10_000
    macs = [
        entry.values("macs")[0] for entry in (*found["comparison"].originals, *found["comparison"].strategies)
    ]
    assert min(macs) < 0.55 * max(macs)


def test_the_python_lines_name_what_exists() -> None:
    for name in re.findall(r"compressit\.(\w+)", block("python", "compressit.load(")):
        assert name in EXPORTS, name


def test_every_example_is_a_valid_recipe_with_every_profile() -> None:
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        for profile in (None, "quick"):
            faults = [str(problem) for problem in _problems(file, profile)]
            faults = [fault for fault in faults if "pip install 'compressit[" not in fault]
            missing = [fault for fault in faults if "there is no f" in fault]
            assert faults == missing, "at most images and weights are missing, which are the user's"
            assert len(missing) in (0, OWN_FILES.get(file.name, 0))


def _problems(file: Path, profile: str | None) -> Sequence[Problem]:
    try:
        load_recipe(file, host=installed(), profile=profile)
    except RecipeError as error:
        return error.problems
    return ()


def test_both_examples_train_the_very_same_twins() -> None:
    from compressit.planning.plan import make_plan

    host = installed()
    keys = []
    for name in ("mnist_twins", "twins_strategies"):
        plan = make_plan(load_recipe(ROOT / "examples" / f"{name}.yaml", host=host), host)
        keys.append([point.model for point in plan.points if point.stage == "train"])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
