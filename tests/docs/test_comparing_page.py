"""docs/comparing.md: its recipe runs, and its commands print what the page shows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from blocks import blocks, own_places, run_line, shows

PAGE = "comparing.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every block of the page has run, in its order."""
    folder = tmp_path_factory.mktemp("comparing")
    environment = own_places(folder)
    printed = ""
    for block in blocks(PAGE):
        if block.title:
            block.write(folder)
        elif block.language == "sh":
            printed = "".join(run_line(line, folder, environment) for line in block.text.splitlines())
        elif block.language == "text":
            for line in block.text.splitlines():
                assert shows(printed, line), f"not printed: {line}\n{printed}"
    return folder


def test_strategies_and_controls_are_measured_at_the_same_cost(folder: Path) -> None:
    with (folder / "runs" / "strategies" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    macs = {
        (row["variant"], row["stage"]): float(row["macs"])
        for row in rows
        if row["macs"] and row["seed"] == "0"
    }
    original = macs["taylor", "train"]
    for control in (("random", "recover"), ("magnitude", "recover"), ("scratch-taylor", "scratch")):
        assert macs[control] / macs["taylor", "recover"] == pytest.approx(1, abs=0.04), control
        assert macs[control] / original == pytest.approx(0.5, abs=0.02)
    thin = macs["thin-taylor", "scratch"] / macs["taylor", "recover"]
    assert thin == pytest.approx(1, abs=0.02)
    assert macs["longer", "longer"] == original
