"""examples/compare_strategies.yaml and compare_curves.yaml: equal epochs, equal cost, and nothing is made twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.contract.results import Results, Row
from compressit.host.plugins import installed
from compressit.recipe.load import parse_recipe

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MORE = """\
  fpgm:
    stages:
      prune: {uses: prune.structured, needs: train, with: {target: parameters, keep: 0.2, importance: fpgm}}
      recover: {uses: train.supervised, with: {epochs: 6, batch_size: 64, optimizer: {name: adam, lr: 0.001}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


def run_of(name: str, folder: Path, more: str = "") -> Results:
    """The run of an example's quick profile. Once: the second time everything is in the store."""
    text = (
        (EXAMPLES / name).read_text(encoding="utf-8").replace("compare: {budget", f"{more}compare: {{budget")
    )
    recipe = parse_recipe(text, name, installed(), "quick")
    return compressit.run(recipe, out=folder / f"{name}{len(more)}", store=folder / "store").results


def finals(results: Results, variant: str) -> list[Row]:
    final = results.config["compare"]["strategies"][variant]["final"]
    return [row for row in results.rows if row.variant == variant and row.stage in final]


def test_every_strategy_and_control_trains_for_as_long_and_keeps_to_the_budget(
    bench: Bench, folder: Path
) -> None:
    results = run_of("compare_strategies.yaml", folder)
    compare = results.config["compare"]
    roles = compare["strategies"]
    assert sum(not role["control"] for role in roles.values()) == 6
    assert {role["control"] for role in roles.values()} == {
        "",
        "longer",
        "random",
        "magnitude",
        "scratch",
        "thin",
    }
    for variant, role in roles.items():
        (row,) = finals(results, variant)
        way = results.lineage(row)
        assert row.dense == "train", variant
        last = [row] if row.uses == "train.scratch" else way
        assert sum(step.notes.get("epochs", 0) for step in last) == compare["epochs"][variant] == 16, variant
        dense = next(step for step in way if step.name == row.dense)
        share = row.metrics["nonzero"] / dense.metrics["nonzero"]
        if role["control"] == "longer":
            assert share == 1
        else:
            assert share < compare["budget"]["nonzero"], variant
        assert "validation_accuracy" in row.metrics


def test_a_second_run_does_nothing_and_another_strategy_costs_only_itself(bench: Bench, folder: Path) -> None:
    run_of("compare_strategies.yaml", folder)
    bench.ran.clear()
    run_of("compare_strategies.yaml", folder)
    assert not bench.ran
    run_of("compare_strategies.yaml", folder, MORE)
    made = {label.split("/")[0] for label in bench.ran}
    # its `random` and `magnitude` have a recovery of their own, as `taylor` has: they are there
    assert made == {"fpgm", "scratch-fpgm", "thin-fpgm"}


def test_every_strategy_has_five_points_and_so_has_the_curve_of_narrower_nets(
    bench: Bench, folder: Path
) -> None:
    results = run_of("compare_curves.yaml", folder)
    for variant in ("sparse", "channels", "student", "thin-sparse", "thin-channels"):
        rows = finals(results, variant)
        sizes = [row.metrics["nonzero"] for row in rows]
        assert len(rows) == 5, variant
        assert sizes == sorted(sizes, reverse=True), variant
    for thin, pruned in zip(finals(results, "thin-channels"), finals(results, "channels"), strict=True):
        assert thin.member == pruned.member
        assert thin.metrics["macs"] == pytest.approx(pruned.metrics["macs"], rel=0.1)
