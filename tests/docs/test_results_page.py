"""docs/results.md: its tables are those of the results beside it, of recipes that exist."""

from __future__ import annotations

import csv
import importlib.util
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("docs_results", ROOT / "docs" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # its dataclasses look there
        spec.loader.exec_module(module)
        yield module


def test_the_tables_are_not_stale(results: ModuleType) -> None:
    assert results.rewritten(TEXT) == TEXT, "run `python docs/results.py`"


def test_every_result_is_of_an_example_and_has_its_command_and_picture() -> None:
    for name in re.findall(r"<!-- results: (\w+) -->", TEXT):
        assert (ROOT / "examples" / f"{name}.yaml").is_file()
        assert f"compressit run examples/{name}.yaml" in TEXT
        assert (ROOT / "docs" / "images" / "results" / f"{name}.png").stat().st_size > 5_000


def test_a_row_says_what_the_results_say() -> None:
    with (ROOT / "docs" / "results" / "lenet300_structured.csv").open(encoding="utf-8") as file:
        own = [r for r in csv.DictReader(file) if (r["variant"], r["stage"]) == ("low_rank", "recover")]
    mean = statistics.fmean(100 - 100 * float(row["test_accuracy"]) for row in own)
    (row,) = re.findall(r"^\| fewer units and low rank, distilled \|.*$", TEXT, re.M)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"{int(own[0]['parameters']):,}"
    assert cells[4].startswith(f"{mean:.2f} ")
