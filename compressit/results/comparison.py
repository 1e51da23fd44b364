"""A run's comparison as people use it: an `Analysis` that shows itself as table, picture, page and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError, did_you_mean
from compressit.results.analysis import Analysis
from compressit.results.entries import ORIGINAL, Entry
from compressit.results.flat import flat
from compressit.results.notes import notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn


class Comparison(Analysis):
    """Which strategy costs what, what it lost, and what can be told apart. `Comparison.of(results)` makes it of any
    run's results.

    Apart from `Analysis`, because `report` draws the page, and the page draws an `Analysis`.
    """

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """A few sentences: what cannot be told apart, and what limits these numbers."""
        return tuple(notes(self))

    def table(self) -> list[dict[str, Any]]:
        """One flat dict per model, `pd.DataFrame(comparison.table())` works: originals, strategies, controls.

        `strategy`, `model`, `control`, `seeds` (how many), `epochs` and `images_seen` of all trainings; the metric
        with `_deviation`, `_low`, `_high` (95 % interval); `change` from the original with `change_low`, `change_high`;
        `significant` (against the baseline, corrected), `better` and `p`; the selecting metric; each cost and its
        `_ratio` (original / own); `within_budget`; `pareto` (in `main_cost` and the selecting metric). None: not
        measured, or it cannot be told.
        """
        return flat(self)

    def best(
        self, max_drop: float | None = None, minimize: str | None = None, select: str | None = None
    ) -> str | None:
        """The name of the strategy that `choose` takes. Prints the reason if there is none."""
        choice = self.choose(max_drop, minimize, select)
        if choice.name is None:
            print(choice.reason)  # noqa: T201 - for people in a session
        return choice.name

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The models of the first seed by strategy, also of controls and the original, loaded when asked for."""
        return _Models(self)

    def model(self, name: str, seed: int | None = None) -> nn.Module:
        """The model of a strategy, a control or "original", in eval mode on the CPU, by default that of the first seed.
        Raises CompressitError if there is no such model, or it cannot be loaded from the run folder."""
        from compressit.checkpoint import model as checkpoint
        from compressit.files.ownfolder import OwnFolder
        from compressit.host.plugins import installed

        entry = self._entry(name)
        rows = dict(sorted(entry.rows.items()))
        if seed is not None and seed not in rows:
            raise CompressitError(
                f"'{name}' has no seed {seed}", f"its seeds are {', '.join(map(str, rows))}"
            )
        row = next(iter(rows.values())) if seed is None else rows[seed]
        if self.results.folder is None or row.checkpoint is None:
            raise CompressitError(
                f"the model of '{name}' is in a run folder, but these results are not read from one",
                "read them with Results.read_json(folder / 'results.json')",
            )
        file = OwnFolder(self.results.folder).find(row.checkpoint)
        if file is None:
            raise CompressitError(
                f"{self.results.folder / row.checkpoint} is missing", "run the recipe again"
            )
        return checkpoint.load(file, host=self.host or installed())

    def plot(self, cost: str | None = None, metric: str | None = None) -> Figure:
        """The metric against a cost, with 95 % intervals over seeds; controls are hollow. By default the compared
        metric and `main_cost`."""
        from compressit.results.scatter import scatter

        return scatter(self, cost, metric)

    def report(self, path: Path | str) -> None:
        """Writes the whole comparison as one self-contained HTML file."""
        from compressit.files.writing import replace
        from compressit.results.page import document

        replace(Path(path), document(self.results).encode())

    def __str__(self) -> str:
        from compressit.results.text import text

        return text(self.table(), self)

    __repr__ = __str__  # a session shows the table

    def _repr_html_(self) -> str:
        from compressit.results.text import html

        return html(self.table(), self)

    def _entry(self, name: str) -> Entry:
        named = {other: entry for entry in self.entries for other in entry.alike}
        named |= {entry.name: entry for entry in (*self.originals, *self.entries)}
        if name == ORIGINAL and name not in named and self.originals:
            return self.originals[0]
        if name not in named:
            raise CompressitError(f"there is no strategy '{name}'", did_you_mean(name, named))
        return named[name]


class _Models(Mapping[str, "nn.Module"]):
    """Models by strategy; loads what is asked for."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def __getitem__(self, name: str) -> nn.Module:
        return self._comparison.model(name)

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in (*self._comparison.originals, *self._comparison.entries))

    def __len__(self) -> int:
        return len(self._comparison.originals) + len(self._comparison.entries)
