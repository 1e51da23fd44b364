"""The page on comparing: what it shows runs, and its numbers are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from compared import compared

from compressit.results.statistics import smallest_effect

PAGE = Path(__file__).parents[2] / "docs" / "comparing.md"
SIZE = {"macs": 100.0, "parameters": 10.0, "latency_1_median_seconds": 0.01}


def test_the_python_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", _section("What a comparison says"), re.DOTALL))
    half = {"test_accuracy": 0.9, "validation_accuracy": 0.89, **{name: x / 2 for name, x in SIZE.items()}}
    results = compared({"test_accuracy": 0.91, "validation_accuracy": 0.9, **SIZE}, {"half": half})
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    results.write_json(tmp_path / "runs" / "mine" / "results.json")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert "half" in capsys.readouterr().out
    assert (tmp_path / "comparison.html").exists()


def test_the_columns_on_the_page_are_those_of_the_table() -> None:
    from compressit import Comparison

    half = {"test_accuracy": 0.9, "validation_accuracy": 0.89, "macs": 50.0}
    results = compared({"test_accuracy": 0.91, "validation_accuracy": 0.9, "macs": 100.0}, {"half": half})
    columns = set(Comparison.of(results).table()[0])
    page = _section("What a comparison says")
    table = page[page.index("| column") : page.index("The *main cost*")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")][2:]
    told = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    told = {f"test_accuracy{name[1:]}" if name.startswith("…") else name for name in told}
    assert told == columns


@pytest.mark.parametrize(("seeds", "deviations"), [(2, 11.5), (3, 3.3), (5, 1.7), (10, 1.0)])
def test_the_page_says_what_seeds_can_find(seeds: int, deviations: float) -> None:
    assert smallest_effect(seeds, 0.05) == pytest.approx(deviations, abs=0.06)
    assert str(deviations) in _section("Statistics")


def _section(title: str) -> str:
    """The text under a heading of the page."""
    page = PAGE.read_text(encoding="utf-8")
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]
