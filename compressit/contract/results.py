"""What a run found out, as plain values: reports, results.json and results.csv are made from it alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from compressit.files.sealed import read_sealed, write_sealed
from compressit.files.writing import replace

SCHEMA = 1
COLUMNS = (  # always there, in this order; whatever other evaluators measure follows in alphabetical order
    "variant", "stage", "round", "member", "seed", "width", "parameters", "nonzero", "macs", "bytes",
    "compression_ratio", "compression_ratio_nonzero", "requested", "achieved",
    "train_accuracy", "validation_accuracy", "test_accuracy", "fit_agreement", "noise_agreement",
    "noise_entropy_bits", "noise_majority", "images_seen",
)  # fmt: skip
ABOUT = {  # columns that no evaluator measures
    "compression_ratio": "parameters of the dense parent by those of this model, biases counted",
    "compression_ratio_nonzero": "the same of the parameters that are not zero: 1 is no compression",
    "requested": "what the stage was asked for, in its own terms: the share of weights zeroed, of width kept",
    "achieved": "what it reached of that, where it could not be exact",
    "images_seen": "training images seen, each as often as it was shown",
    "width": "units of the widest hidden layer",
}
RESERVED = frozenset(
    {"variant", "stage", "round", "member", "seed", "compression_ratio", "compression_ratio_nonzero"}
)
"""Columns that say which model a row is of, or are computed: no evaluator measures them."""
_NOTED = ("images_seen", "width", "requested", "achieved")
_RATIOS = {"compression_ratio": "parameters", "compression_ratio_nonzero": "nonzero"}


@dataclass(frozen=True)
class Row:
    """One model of the run: variant x seed x stage x round. Fractions, not percent."""

    variant: str
    stage: str  # the stage's name: "train", "blog"
    round: int | None  # from 1 in a repeated stage, else None
    member: str  # "sparsity=0.5" of a swept stage, else ""
    seed: int
    uses: str  # the plugin's name, or "init"
    teacher: str | None  # the row-name of the model it was judged against, if any
    metrics: Mapping[str, float]  # by name, from all evaluators; missing: not measured or not defined here
    notes: Mapping[str, Any]  # facts the stage noted: noise, images_seen, achieved ratios
    curves: Mapping[str, Sequence[tuple[float, float]]]  # "loss" -> [(step, value), ...], at most 200 points
    seconds: float | None = None
    checkpoint: str | None = None  # path relative to the run folder
    dense: str | None = (
        None  # the row-name of the dense parent: the first model trained (or given) on its way
    )

    @property
    def name(self) -> str:
        """`blog-04`, `prune@sparsity=0.5`, `train`."""
        member = f"@{self.member}" if self.member else ""
        return f"{self.stage}{member}" + (f"-{self.round:02d}" if self.round is not None else "")


@dataclass(frozen=True)
class Results:
    """A whole run, finished or not. `missing` names the models that were planned but are not there yet."""

    recipe: str
    profile: str | None
    rows: Sequence[Row]
    metrics: Mapping[str, Mapping[str, str]]  # name -> {"better", "unit", "about"}
    about: Mapping[str, Any]  # date, host, versions, threads, seconds: facts of the run
    missing: Sequence[str] = ()
    failures: Sequence[str] = ()
    description: str = ""
    # The recipe: as it was written (`recipe`), and as resolved, per variant (`variants`).
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """The recipe as it was written; "" where it was made in Python."""
        return str(self._written.get("text", ""))

    @property
    def command(self) -> str:
        """The command line that runs `text` again, saved under its own name."""
        written = self._written
        words = ["compressit", "run", str(written.get("file", f"{self.recipe}.yaml"))]
        words += ["--profile", self.profile] if self.profile else []
        words += [word for setting in written.get("settings", ()) for word in ("--set", str(setting))]
        return shlex.join([*words, *(["--trust"] if self.config.get("plugins") else [])])

    @property
    def _written(self) -> Mapping[str, Any]:
        return self.config.get("recipe") or {}

    def table(self) -> list[dict[str, Any]]:
        """One flat dict per row with every column of COLUMNS and every further metric; None where empty."""
        extra = sorted({m for row in self.rows for m in row.metrics} - set(COLUMNS))
        named = {(row.variant, row.seed, row.name): row for row in self.rows}
        return [
            self._flat(row, named.get((row.variant, row.seed, row.dense or "")), extra) for row in self.rows
        ]

    def warnings(self) -> list[str]:
        """What makes results doubtful, a line each: of a variant's data, classes that a split lacks; of a model, a
        training that diverged, metrics that were not finite."""
        of_data = [
            f"{row.variant}: {doubt}" for row in self.rows for doubt in row.notes.get("data_doubts") or ()
        ]
        of_models = [
            f"{row.variant}/seed{row.seed}/{row.name}: {doubt}" for row in self.rows for doubt in _doubts(row)
        ]
        return [*dict.fromkeys(of_data), *of_models]

    def write_json(self, path: Path) -> None:
        """Writes the results atomically, with a digest of what they say; numbers that are not finite become null."""
        write_sealed(path, {"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def read_json(path: Path) -> Results:
        """Reads what `write_json` wrote, null as NaN. Raises OSError, and ValueError for anything else, a file that
        was changed since among it."""
        content: Any = read_sealed(path)
        if content.pop("schema", None) != SCHEMA:
            raise ValueError(f"not results of schema {SCHEMA}")
        try:
            rows = [_row(row) for row in content.pop("rows")]
            results = Results(rows=rows, **content)
            _check_types(results)
        except (TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"not the results of a run: {error}") from error
        return results

    def write_csv(self, path: Path) -> None:
        """A row per model, a header of the table's columns; empty cells where nothing was measured."""
        import csv
        import io

        table = self.table()
        columns = list(table[0]) if table else list(COLUMNS)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_inert, columns))
        writer.writerows(["" if value is None else _inert(value) for value in row.values()] for row in table)
        replace(path, text.getvalue().encode("utf-8", "backslashreplace"))

    @staticmethod
    def _flat(row: Row, dense: Row | None, extra: Sequence[str]) -> dict[str, Any]:
        noted = {n: v for n in _NOTED if isinstance(v := row.notes.get(n), int | float)}
        fixed: dict[str, Any] = {
            **{name: getattr(row, name) for name in ("variant", "stage", "round", "member", "seed")},
            **noted,
            **{name: _ratio(dense, row, metric) for name, metric in _RATIOS.items()},
        }
        return {name: _finite(fixed.get(name, row.metrics.get(name))) for name in (*COLUMNS, *extra)}


def _ratio(dense: Row | None, row: Row, metric: str) -> float | None:
    """Original / new, by the same counter; None where either was not counted, or nothing is left."""
    before, after = dense.metrics.get(metric) if dense else None, row.metrics.get(metric)
    return before / after if before is not None and after else None


def _doubts(row: Row) -> list[str]:
    doubts = [f"it diverged: {row.notes['diverged']}"] if row.notes.get("diverged") else []
    noted = {str(name) for name in row.notes.get("not_finite") or ()}
    wrong = noted | {name for name, value in row.metrics.items() if not math.isfinite(value)}
    return doubts + ([f"not finite: {', '.join(sorted(wrong))}"] if wrong else [])


def _row(content: Mapping[str, Any]) -> Row:
    metrics: Any = {name: math.nan if value is None else value for name, value in content["metrics"].items()}
    curves: Any = {
        name: [(step, math.nan if value is None else value) for step, value in points]
        for name, points in content["curves"].items()
    }
    row = Row(**{**content, "metrics": metrics, "curves": curves})
    _check_types(row)
    return row


def _check_types(value: Row | Results) -> None:
    """Raises TypeError where a value is not of the type that its class declares."""
    types = get_type_hints(type(value))
    for declared in fields(value):
        _check_type(declared.name, getattr(value, declared.name), types[declared.name])


def _check_type(name: str, value: Any, declared: Any) -> None:
    origin, inner = get_origin(declared) or declared, get_args(declared)
    if origin is Any:
        return
    if origin is UnionType:
        allowed = [get_origin(kind) or kind for kind in inner]
        fits = type(value) in allowed or (float in allowed and type(value) is int)
    elif origin is Mapping:
        fits = isinstance(value, dict)
        for key, item in value.items() if fits else ():
            _check_type(f"{name}.{key}", item, inner[1])
    elif origin is Sequence:
        fits = isinstance(value, list)
        for index, item in enumerate(value if fits else ()):
            _check_type(f"{name}[{index}]", item, inner[0])
    elif origin is tuple:
        fits = len(value) == len(inner) and all(type(item) in (int, float) for item in value)
    else:
        fits = type(value) is origin or (origin is float and type(value) is int)
    if not fits:
        raise TypeError(f"{name} is {value!r:.80}")


def _inert(cell: Any) -> Any:
    """A text that spreadsheets take for a formula, behind an apostrophe: they show it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r\n")) else cell


def _finite(value: float | None) -> float | None:
    return value if not isinstance(value, float) or math.isfinite(value) else None
