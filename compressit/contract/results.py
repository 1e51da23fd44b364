"""The results of a run as plain values. Reports, results.json and results.csv are made only from them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from compressit.contract.pictures import MOST_BYTES
from compressit.errors import CompressitError
from compressit.files.ownfolder import OwnFolder
from compressit.files.reading import opened
from compressit.files.sealed import read_sealed, sealed
from compressit.files.writing import replace

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
PLACE = ("variant", "stage", "round", "member", "seed")
RATIOS = {"compression_ratio": "parameters", "compression_ratio_nonzero": "nonzero"}
"""Computed columns, with their metric: the dense parent's value divided by the model's."""
RESERVED = frozenset({*PLACE, *RATIOS})
"""Column names that evaluators may not use."""
ABOUT = {  # of columns that are computed, or noted by the host or by a stage with a target
    "compression_ratio": "parameters of the dense parent divided by those of this model, including biases",
    "compression_ratio_nonzero": "the same for nonzero parameters; 1 is no compression",
    "requested": "target of the stage, in its own terms: fraction of weights to zero, of width to keep",
    "achieved": "what the stage reached, if it could not meet the target exactly",
    "images_seen": "training images seen, with repetitions",
    "epochs": "passes over the training set",
    "width": "units of the widest hidden layer",
}
Number = Annotated[int | float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number of a metric or curve. In JSON, null stands for a number that is not finite."""


@dataclass(frozen=True)
class Kept:
    """An array, a picture or another file in the run folder."""

    file: str  # path relative to the run folder
    sha256: str  # of the file
    name: str  # what the plugin called it; an array's name in the file


@dataclass(frozen=True)
class Row:
    """One model of the run: variant x seed x stage x round. Fractions, not percent."""

    variant: str
    stage: str  # the stage's name: "train", "blog"
    round: int | None  # from 1 in a repeated stage, else None
    member: str  # "sparsity=0.5" of a swept stage, else ""
    seed: int
    uses: str  # the plugin's name, or "init"
    teacher: str | None  # the row name of the model it is compared with, if any
    metrics: Mapping[str, Number]  # of all evaluators, by name; missing: not measured or not defined here
    notes: Mapping[str, Any]  # facts that the stage noted: images_seen, achieved ratios
    # of the stage and of all evaluators: "loss" -> [(step, value), ...], at most 200 points
    curves: Mapping[str, Sequence[tuple[Number, Number]]]
    seconds: float | None = None
    checkpoint: str | None = None  # path relative to the run folder
    # the row name of the dense parent: the first trained (or given) model that it was made from
    dense: str | None = None
    parent: str | None = None  # the row name of the model that it was made from, if that has a row
    options: Mapping[str, Any] = field(
        default_factory=dict[str, Any]
    )  # of its stage's plugin, with all defaults
    # of the stage and of all evaluators, for `Results.array` and `Results.picture`
    arrays: Mapping[str, Kept] = field(default_factory=dict[str, Kept])
    pictures: Mapping[str, Kept] = field(default_factory=dict[str, Kept])
    # of evaluators, for other programs: "net.onnx", in `exports/` of the run folder
    files: Mapping[str, Kept] = field(default_factory=dict[str, Kept])
    # the options of the variant that the recipe's `sweep` varies: "model.with.hidden" -> [64]
    swept: Mapping[str, Any] = field(default_factory=dict[str, Any])

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def name(self) -> str:
        """`blog-04`, `prune@sparsity=0.5`, `train`."""
        member = f"@{self.member}" if self.member else ""
        return f"{self.stage}{member}" + (f"-{self.round:02d}" if self.round is not None else "")


@dataclass(frozen=True)
class Results:
    """The results of a run, finished or not. `missing` names the planned models that are not made yet."""

    recipe: str
    profile: str | None
    rows: Sequence[Row]
    metrics: Mapping[str, Mapping[str, str]]  # name -> {"better", "unit", "about"}, in the recipe's order
    about: Mapping[str, Any]  # date, host, versions, threads, seconds: facts of the run
    missing: Sequence[str] = ()
    failures: Sequence[str] = ()
    description: str = ""
    # The recipe as written (`recipe`) and as resolved for each variant (`variants`).
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # What evaluators declare besides metrics: name -> {"kind": "curve", "x", "y", "about"}, and so for "picture" and
    # "array".
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    # of the run, where arrays and pictures are read; never in the file
    folder: Path | None = field(default=None, compare=False)

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def text(self) -> str:
        """The recipe's text; "" if it was made in Python."""
        return str(self._written.get("text", ""))

    @property
    def command(self) -> str:
        """The command line that runs `text` again, saved under the recipe's file name."""
        written = self._written
        words = ["compressit", "run", str(written.get("file", f"{self.recipe}.yaml"))]
        words += ["--profile", self.profile] if self.profile else []
        words += [word for setting in written.get("settings", ()) for word in ("--set", str(setting))]
        return shlex.join([*words, *(["--trust"] if self.config.get("plugins") else [])])

    @property
    def _written(self) -> Mapping[str, Any]:
        return self.config.get("recipe") or {}

    def lineage(self, row: Row) -> list[Row]:
        """The row, the one of the model that it was made from, and so on to the first: nearest first."""
        named = {(other.variant, other.seed, other.name): other for other in self.rows}
        found = {row.name: row}
        while (parent := named.get((row.variant, row.seed, row.parent or ""))) and parent.name not in found:
            row = found[parent.name] = parent
        return list(found.values())

    def array(self, row: Row, name: str) -> np.ndarray:
        """An array that the row's stage or an evaluator saved (`row.arrays` has the names).

        Raises CompressitError if there is none, or its file is missing from the run folder or was changed.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        kept = row.arrays.get(name)
        found = self._content(row, "array", name, kept)
        try:
            return load(found)[kept.name if kept else name]
        except (SafetensorError, KeyError) as error:
            raise CompressitError(
                f"{kept and kept.file} does not hold the array '{name}': {error}"
            ) from error

    def picture(self, row: Row, name: str) -> bytes:
        """A picture of the row as a PNG file (`row.pictures` has the names). Raises as `array` does."""
        return self._content(row, "picture", name, row.pictures.get(name), MOST_BYTES)

    def _content(self, row: Row, kind: str, name: str, kept: Kept | None, most: int | None = None) -> bytes:
        if kept is None:
            known = ", ".join(row.arrays if kind == "array" else row.pictures)
            hint = f"it has {known}" if known else f"it has no {kind}s"
            raise CompressitError(f"{row.variant}/seed{row.seed}/{row.name} has no {kind} '{name}'", hint)
        if self.folder is None:
            raise CompressitError(
                f"the {kind} '{name}' is in a run folder, but these results are not read from one",
                "read them with Results.read_json(folder / 'results.json')",
            )
        file = OwnFolder(self.folder).find(kept.file)
        if file is None:
            raise CompressitError(f"{self.folder / kept.file} is missing", "run the recipe again")
        with opened(file) as source:
            found = source.read() if most is None else source.read(most + 1)
        if hashlib.sha256(found).hexdigest() != kept.sha256:  # also of a picture that is too large
            raise CompressitError(f"{self.folder / kept.file} was changed", "run the recipe again")
        return found

    def columns(self) -> list[str]:
        """The model's place; what a `sweep` over variants varies; the metrics, in the order of the recipe's evaluators;
        compression ratios; the numbers that stages noted."""
        measured = sorted({name for row in self.rows for name in row.metrics} - self.metrics.keys())
        metrics = [*self.metrics, *measured]
        ratios = [ratio for ratio, size in RATIOS.items() if size in metrics]
        noted = sorted({name for row in self.rows for name in _numbers(row.notes)})
        return list(dict.fromkeys([*PLACE, *self.swept(), *metrics, *ratios, *noted]))

    def swept(self) -> list[str]:
        """The options that a `sweep` over variants varies."""
        return list(dict.fromkeys(name for row in self.rows for name in row.swept))

    def table(self) -> list[dict[str, Any]]:
        """One flat dict per row with every column; None for an empty cell."""
        columns = self.columns()
        named = {(row.variant, row.seed, row.name): row for row in self.rows}
        found: list[dict[str, Any]] = []
        for row in self.rows:
            dense = named.get((row.variant, row.seed, row.dense or ""))
            ratios = {ratio: _ratio(dense, row, size) for ratio, size in RATIOS.items()}
            place = {name: getattr(row, name) for name in PLACE}
            swept = {name: _cell(value) for name, value in row.swept.items()}
            values = {**_numbers(row.notes), **row.metrics, **ratios, **swept, **place}
            found.append({name: _finite(values.get(name)) for name in columns})
        return found

    def warnings(self) -> list[str]:
        """Reasons to doubt the results, one line each: a split that lacks classes, a training that diverged, metrics
        that are not finite."""
        of_data = [
            f"{row.variant}: {doubt}" for row in self.rows for doubt in row.notes.get("data_doubts") or ()
        ]
        of_models = [
            f"{row.variant}/seed{row.seed}/{row.name}: {doubt}" for row in self.rows for doubt in _doubts(row)
        ]
        return [*dict.fromkeys(of_data), *of_models]

    def write_json(self, path: Path) -> None:
        """Writes the results atomically with a digest, each row on a line. Numbers that are not finite become null."""
        facts = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        del facts["folder"]
        told = sealed({"schema": SCHEMA, **facts, "rows": [_told(row) for row in self.rows]})
        parts = [
            f"{json.dumps(name)}: {_lines(value) if name == 'rows' else json.dumps(value)}"
            for name, value in told.items()
        ]
        replace(path, ("{" + ",\n".join(parts) + "}\n").encode())

    @staticmethod
    def read_json(path: Path) -> Results:
        """Reads a file from `write_json`, null as NaN. Raises OSError, and ValueError for any other file or one that
        was changed. Arrays and pictures are read from the file's folder."""
        facts = read_sealed(path)
        if facts.pop("schema", None) != SCHEMA:
            raise ValueError(f"not results of schema {SCHEMA}")
        if "folder" in facts:
            raise ValueError("not the results of a run: folder: it may not be in the file")
        try:
            found = TypeAdapter(Results).validate_json(json.dumps(facts), strict=True)
            return dataclasses.replace(found, folder=path.parent)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"not the results of a run: {where}: {first['msg']}") from error

    def write_csv(self, path: Path) -> None:
        """Writes a header and a row for each model. Cells without a value are empty."""
        import csv
        import io

        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_inert, self.columns()))
        rows = self.table()
        writer.writerows(["" if value is None else _inert(value) for value in row.values()] for row in rows)
        replace(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _told(row: Row) -> dict[str, Any]:
    """A row's fields for JSON; its many numbers are not copied."""
    facts = {part.name: getattr(row, part.name) for part in dataclasses.fields(row)}
    for kept in ("arrays", "pictures", "files"):
        facts[kept] = {name: asdict(file) for name, file in facts[kept].items()}
    return facts


def _lines(rows: Sequence[Any]) -> str:
    """JSON with one row on each line. (An indent would be ten times as slow, and a line for each number.)"""
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"


def _ratio(dense: Row | None, row: Row, metric: str) -> float | None:
    """Original / new value of a metric; None if one is missing or the new value is 0."""
    before, after = dense.metrics.get(metric) if dense else None, row.metrics.get(metric)
    return before / after if before is not None and after else None


def _doubts(row: Row) -> list[str]:
    doubts = [f"the training diverged: {row.notes['diverged']}"] if row.notes.get("diverged") else []
    noted = {str(name) for name in row.notes.get("not_finite") or ()}
    wrong = noted | {name for name, value in row.metrics.items() if not math.isfinite(value)}
    return doubts + ([f"not finite: {', '.join(sorted(wrong))}"] if wrong else [])


def _numbers(notes: Mapping[str, Any]) -> dict[str, int | float]:
    """The notes that are numbers, and so can be columns."""
    return {name: value for name, value in notes.items() if type(value) in (int, float)}


def _cell(value: Any) -> Any:
    """An option's value in a table: a number or text as it is, anything else as JSON."""
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if plain else json.dumps(value)


def _inert(cell: Any) -> Any:
    """The cell, with an apostrophe before text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r\n")) else cell


def _finite(value: float | None) -> float | None:
    return value if not isinstance(value, float) or math.isfinite(value) else None
