from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.results import COLUMNS, Results, Row
from compressit.files.sealed import sealed


def _row(**fields: Any) -> Row:
    values: dict[str, Any] = {
        "variant": "real", "stage": "blog", "round": 4, "member": "", "seed": 0, "uses": "shrink.noise",
        "teacher": "train", "metrics": {"test_accuracy": 0.25, "own_metric": 3.5},
        "notes": {"images_seen": 60_000, "width": 210},
        "curves": {"loss": [(1.0, 2.5), (2.0, 1.25)]}, "seconds": 1.5, "checkpoint": "checkpoints/x",
    }  # fmt: skip
    return Row(**{**values, **fields})


def _results(*rows: Row) -> Results:
    return Results(
        recipe="mnist_twins",
        profile="quick",
        rows=list(rows),
        metrics={"test_accuracy": {"better": "higher", "unit": "fraction", "about": ""}},
        about={"host": "x", "threads": 2},
        missing=["real/seed0/blog-05"],
        failures=[],
        config={"real": {"seed": 0}},
    )


def _strictly(path: Path) -> Any:
    """JSON as its standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_rows_are_named_by_stage_member_and_rung() -> None:
    assert _row().name == "blog-04"
    assert _row(round=None).name == "blog"
    assert _row(round=None, member="sparsity=0.5").name == "blog@sparsity=0.5"
    assert _row(round=12, member="sparsity=0.5").name == "blog@sparsity=0.5-12"


def test_the_table_has_every_promised_column_first_and_then_the_other_metrics() -> None:
    promised = [
        "variant", "stage", "round", "seed", "width", "parameters", "nonzero", "macs", "bytes",
        "compression_ratio", "compression_ratio_nonzero", "requested", "achieved",
        "train_accuracy", "validation_accuracy", "test_accuracy", "fit_agreement", "noise_agreement",
        "noise_entropy_bits", "noise_majority", "images_seen",
    ]  # fmt: skip
    assert [column for column in COLUMNS if column in promised] == promised
    one, other = _results(_row(), _row(round=None, metrics={"a_metric": 1.0}, notes={})).table()
    assert list(one) == list(other) == [*COLUMNS, "a_metric", "own_metric"]
    assert (one["variant"], one["stage"], one["round"], one["seed"]) == ("real", "blog", 4, 0)
    assert (one["width"], one["images_seen"], one["own_metric"], one["a_metric"]) == (210, 60_000, 3.5, None)
    assert (other["round"], other["width"], other["test_accuracy"], other["a_metric"]) == (
        None,
        None,
        None,
        1.0,
    )


def test_what_a_stage_did_not_note_an_evaluator_may_measure() -> None:
    (flat,) = _results(_row(notes={"width": None}, metrics={"width": 84.0, "images_seen": 5.0})).table()
    assert (flat["width"], flat["images_seen"]) == (84.0, 5.0)


def test_ratios_are_those_of_the_dense_parent_by_the_same_counter() -> None:
    def sized(parameters: int, nonzero: int | None, **fields: Any) -> Row:
        counts = {"parameters": parameters} | ({} if nonzero is None else {"nonzero": nonzero})
        return _row(round=None, metrics=counts, **fields)

    results = _results(
        sized(1000, 800, stage="train", dense="train"),
        sized(1000, 100, stage="prune", dense="train", notes={"requested": 0.9, "achieved": 0.875}),
        sized(250, None, stage="shrink", dense="train", notes={"requested": [0.5], "achieved": "half"}),
        sized(500, 0, stage="prune", dense="train", seed=1),
        sized(2000, 2000, stage="train", seed=1, dense="train"),
        sized(500, 500, stage="fresh"),
    )
    columns = ("compression_ratio", "compression_ratio_nonzero", "requested", "achieved")
    assert [tuple(flat[column] for column in columns) for flat in results.table()] == [
        (1, 1, None, None),
        (1, 8, 0.9, 0.875),
        (4, None, None, None),
        (4, None, None, None),
        (1, 1, None, None),
        (None, None, None, None),
    ]


def test_csv_holds_the_table_with_empty_cells(tmp_path: Path) -> None:
    results = _results(_row(variant='a "quoted", name'), _row(round=None, metrics={"parameters": math.nan}))
    results.write_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for written, row in zip(rows, results.table(), strict=True):
        assert written == {name: "" if value is None else str(value) for name, value in row.items()}
    assert rows[0]["variant"] == 'a "quoted", name'
    assert rows[1]["parameters"] == rows[1]["round"] == ""


def test_csv_of_a_run_without_a_model_has_its_header(tmp_path: Path) -> None:
    _results().write_csv(tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n"


_FLOATS = st.floats(-1e299, 1e299)


@given(
    st.dictionaries(st.text(max_size=5), _FLOATS, max_size=3),
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
    _strictly(path)
    assert Results.read_json(path) == results


def test_numbers_that_are_none_are_valid_json_and_empty_cells(tmp_path: Path) -> None:
    row = _row(
        metrics={"test_accuracy": math.nan, "ratio": math.inf, "kept": 0.5},
        curves={"loss": [(1.0, 2.0), (2.0, math.nan)]},
        notes={"losses": [math.nan, 1.0]},
    )
    results = _results(row)
    results.write_json(tmp_path / "results.json")
    written = _strictly(tmp_path / "results.json")["rows"][0]
    assert written["metrics"] == {"test_accuracy": None, "ratio": None, "kept": 0.5}
    assert written["notes"] == {"losses": [None, 1.0]}
    (flat,) = results.table()
    assert (flat["test_accuracy"], flat["ratio"], flat["kept"]) == (None, None, 0.5)
    read = Results.read_json(tmp_path / "results.json").rows[0]
    assert math.isnan(read.metrics["test_accuracy"])
    assert read.curves["loss"][0] == (1.0, 2.0)
    assert math.isnan(read.curves["loss"][1][1])


@pytest.mark.parametrize("text", ['{"schema": 999, "rows": []}', "{}", "[]", "not json"])
def test_another_schema_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results|seal|Expecting"):
        Results.read_json(tmp_path / "results.json")


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
    monkeypatch.undo()
    write(_results(_row(), _row(round=5)), path)
    assert [file.name for file in tmp_path.iterdir()] == ["results"], "nothing is left beside it"
    assert path.read_bytes() != before


@pytest.mark.parametrize("write", [Results.write_json, Results.write_csv])
def test_a_writer_that_is_interrupted_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Results, Path], None]
) -> None:
    monkeypatch.setattr("os.replace", _killed)
    with pytest.raises(KeyboardInterrupt):
        write(_results(_row()), tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["a digit", "a metric", "a type", "an added field", "no seal"])
def test_results_that_were_changed_are_no_results(tmp_path: Path, what: str) -> None:
    file = tmp_path / "results.json"
    _results(_row(metrics={"test_accuracy": 0.5})).write_json(file)
    content = json.loads(file.read_text())
    if what == "a digit":
        file.write_text(file.read_text().replace("0.5", "0.6"))
    else:
        if what == "a metric":
            content["rows"][0]["metrics"]["test_accuracy"] = "0.5"
        if what == "a type":
            content["rows"][0]["seed"] = [1]
        if what == "an added field":
            content["rows"][0]["more"] = 1
        del content["sha256"]
        text = json.dumps(content if what == "no seal" else sealed(content))  # a stranger can seal as well
        file.write_text(text)
    with pytest.raises(ValueError, match=r"changed|seal|results"):
        Results.read_json(file)


def test_models_that_diverged_or_have_no_finite_number_are_warned_of() -> None:
    results = _results(
        _row(notes={"diverged": "the loss became nan in epoch 3", "not_finite": ["b"]}),
        _row(round=5, metrics={"a": math.nan, "c": 1.0}),
        _row(round=6, notes={"not_finite": []}),
    )
    assert results.warnings() == [
        "real/seed0/blog-04: it diverged: the loss became nan in epoch 3",
        "real/seed0/blog-04: not finite: b",
        "real/seed0/blog-05: not finite: a",
    ]


def test_what_a_variants_data_lack_is_warned_of_once() -> None:
    notes = {"data_doubts": ["no test example has the class 3"]}
    results = _results(_row(notes=notes), _row(round=5, notes=notes))
    assert results.warnings() == ["real: no test example has the class 3"]


def _killed(self: Path, target: Path) -> None:
    raise KeyboardInterrupt
