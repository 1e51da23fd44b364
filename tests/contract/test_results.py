from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.results import PLACE, Results, Row
from compressit.files.sealed import sealed

DECLARED = {
    "test_accuracy": {"better": "higher", "unit": "fraction", "about": ""},
    "nonzero": {"better": "lower", "unit": "count", "about": ""},
    "a_loss": {"better": "lower", "unit": "nats", "about": ""},
}


def _row(**fields: Any) -> Row:
    values: dict[str, Any] = {
        "variant": "real", "stage": "blog", "round": 4, "member": "", "seed": 0, "uses": "shrink.noise",
        "teacher": "train", "metrics": {"test_accuracy": 0.25}, "notes": {"images_seen": 60_000, "width": 210},
        "curves": {"loss": [(1.0, 2.5), (2.0, 1.25)]}, "seconds": 1.5, "checkpoint": "checkpoints/x",
    }  # fmt: skip
    return Row(**{**values, **fields})


def _results(*rows: Row) -> Results:
    return Results(
        "mnist_twins", "quick", list(rows), DECLARED, {"host": "x", "threads": 2}, ["real/seed0/blog-05"], []
    )


def test_rows_are_named_by_stage_member_and_rung() -> None:
    assert _row().name == "blog-04"
    assert _row(round=None).name == "blog"
    assert _row(round=None, member="sparsity=0.5").name == "blog@sparsity=0.5"
    assert _row(round=12, member="sparsity=0.5").name == "blog@sparsity=0.5-12"


def test_columns_are_place_declared_metrics_ratios_and_noted_numbers() -> None:
    notes = {
        "zeros": 3,
        "achieved": 0.5,
        "done": True,
        "why": "so",
        "parts": [1],
        "test_accuracy": 9.0,
        "seed": 7,
    }
    results = _results(_row(notes=notes), _row(round=None, metrics={"own": 1.0}, notes={"nonzero": 4.0}))
    one, other = results.table()
    columns = [*PLACE, *DECLARED, "own", "compression_ratio_nonzero", "achieved", "zeros"]
    assert list(one) == list(other) == results.columns() == columns
    assert list(one.values()) == ["real", "blog", 4, "", 0, 0.25, None, None, None, None, 0.5, 3]
    assert (other["round"], other["test_accuracy"], other["own"]) == (None, None, 1.0)
    assert other["nonzero"] == 4.0, "what no evaluator measured of it"


def test_ratios_are_those_of_the_dense_parent_by_the_same_counter() -> None:
    def sized(parameters: int, nonzero: int | None, **fields: Any) -> Row:
        counts = {"parameters": parameters} | ({} if nonzero is None else {"nonzero": nonzero})
        return _row(round=None, metrics=counts, **fields)

    results = _results(
        sized(1000, 800, stage="train", dense="train"),
        sized(1000, 100, stage="prune", dense="train"),
        sized(250, None, stage="shrink", dense="train"),
        sized(500, 0, stage="prune", dense="train", seed=1),
        sized(2000, 2000, stage="train", seed=1, dense="train"),
        sized(500, 500, stage="fresh"),
    )
    ratios = [(flat["compression_ratio"], flat["compression_ratio_nonzero"]) for flat in results.table()]
    assert ratios == [(1, 1), (1, 8), (4, None), (4, None), (1, 1), (None, None)]


def test_csv_holds_the_table_with_empty_cells(tmp_path: Path) -> None:
    results = _results(_row(variant='a "quoted", name'), _row(round=None, metrics={"nonzero": math.nan}))
    results.write_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for written, row in zip(rows, results.table(), strict=True):
        assert written == {name: "" if value is None else str(value) for name, value in row.items()}
    assert rows[0]["variant"] == 'a "quoted", name'
    assert rows[1]["nonzero"] == rows[1]["round"] == ""
    _results().write_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == ",".join(_results().columns()) + "\n"


_FLOATS = st.floats(-1e299, 1e299)


@given(
    st.dictionaries(st.text(max_size=5), _FLOATS | st.integers(0, 2**40), max_size=3),
    st.lists(st.tuples(_FLOATS, _FLOATS), max_size=3),
    st.recursive(
        st.none() | st.booleans() | st.integers() | _FLOATS | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=5,
    ),
)
def test_json_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], points: list[Any], note: Any
) -> None:
    path = tmp_path_factory.mktemp("json") / "results.json"
    results = _results(_row(metrics=metrics, curves={"loss": points}, notes={"x": note}), _row(round=None))
    results.write_json(path)
    again = Results.read_json(path)
    assert again == results
    assert again.table() == results.table()
    told = [json.dumps(asdict(r), default=str) for r in (replace(again, folder=None), results)]
    assert told[0] == told[1], "counts stay whole, and all in its order"


def test_numbers_that_are_none_are_valid_json_and_empty_cells(tmp_path: Path) -> None:
    row = _row(
        metrics={"test_accuracy": math.nan, "ratio": math.inf, "kept": 0.5},
        curves={"loss": [(1.0, 2.0), (2.0, math.nan)]},
        notes={"losses": [math.nan, 1.0]},
    )
    results = _results(row)
    results.write_json(tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["rows"][0]["metrics"] == {"test_accuracy": None, "ratio": None, "kept": 0.5}
    assert json.loads(text)["rows"][0]["notes"] == {"losses": [None, 1.0]}
    (flat,) = results.table()
    assert (flat["test_accuracy"], flat["ratio"], flat["kept"]) == (None, None, 0.5)
    read = Results.read_json(tmp_path / "results.json").rows[0]
    assert math.isnan(read.metrics["test_accuracy"])
    assert read.curves["loss"][0] == (1.0, 2.0)
    assert math.isnan(read.curves["loss"][1][1])


@pytest.mark.parametrize("write", [Results.write_json, Results.write_csv])
def test_writing_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Results, Path], None]
) -> None:
    path = tmp_path / "results"
    write(_results(_row()), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", _killed)
    with pytest.raises(KeyboardInterrupt):
        write(_results(_row(), _row(round=5)), path)
    assert path.read_bytes() == before, "killed before the new file was whole: the old one stands"
    assert [file.name for file in tmp_path.iterdir()] == ["results"], "nothing is left beside it"


@pytest.mark.parametrize("text", ['{"schema": 999, "rows": []}', "{}", "[]", "not json"])
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results|sha256|Expecting"):
        Results.read_json(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("test_accuracy", "0.5"),
        ("test_accuracy", True),
        ("seed", [1]),
        ("round", 1.5),
        ("more", 1),
        ("rows", 7),
    ],
)
def test_another_type_is_refused_with_its_place_though_it_is_sealed(
    tmp_path: Path, place: str, value: Any
) -> None:
    file = tmp_path / "results.json"
    _results(_row(metrics={"test_accuracy": 0.5})).write_json(file)
    content = json.loads(file.read_text())
    row = content["rows"][0]
    {"test_accuracy": row["metrics"], "rows": content}.get(place, row)[place] = value
    del content["sha256"]
    file.write_text(json.dumps(sealed(content)))  # a stranger can seal as well
    with pytest.raises(ValueError, match=f"not the results of a run: .*{place}"):
        Results.read_json(file)


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("0.25", "0.26"), lambda t: t.replace("sha256", "sha")]
)
def test_results_that_were_changed_are_no_results(tmp_path: Path, change: Callable[[str], str]) -> None:
    file = tmp_path / "results.json"
    _results(_row()).write_json(file)
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=r"changed|sha256"):
        Results.read_json(file)


def test_models_to_distrust_are_warned_of_and_what_the_data_lack_once() -> None:
    results = _results(
        _row(
            notes={"diverged": "the loss became nan in epoch 3", "not_finite": ["b"], "data_doubts": ["no 3"]}
        ),
        _row(round=5, metrics={"a": math.nan, "c": 1.0}, notes={"data_doubts": ["no 3"]}),
        _row(round=6, notes={"not_finite": []}),
    )
    assert results.warnings() == [
        "real: no 3",
        "real/seed0/blog-04: the training diverged: the loss became nan in epoch 3",
        "real/seed0/blog-04: not finite: b",
        "real/seed0/blog-05: not finite: a",
    ]


def _killed(*paths: object) -> None:
    raise KeyboardInterrupt
