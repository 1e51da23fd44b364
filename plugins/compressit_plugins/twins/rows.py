"""The rows of a twins run, sorted for its figures and words: models over their seeds, in their stages and rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev
from typing import Any, Literal

from compressit import Results, Row

Line = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""x, mean, standard deviation (0 for one seed)."""
Pair = tuple["Point | None", "Point | None"]
"""Real and fake."""


@dataclass(frozen=True)
class Point:
    """One model of one variant, over its seeds (at least one row)."""

    rows: Sequence[Row]

    @property
    def round(self) -> int | None:
        """From 1 in a repeated stage, else None."""
        return self.rows[0].round

    @property
    def width(self) -> float | None:
        """The widest hidden layer, when known."""
        width = self.rows[0].notes.get("width")
        return float(width) if isinstance(width, int | float) else None

    @property
    def size(self) -> float | None:
        """Parameters that are not zero, or all where these were not counted."""
        return self.mean("nonzero") or self.mean("parameters")

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds that have it as a finite number; None where none has."""
        values = self._values(metric)
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float:
        """Sample standard deviation over seeds; 0 for fewer than two."""
        return _deviation(self._values(metric))

    def curve(self, name: str) -> Line:
        """A curve over seeds, at those x that every seed with this curve has; empty when nobody has it."""
        curves = [dict(row.curves[name]) for row in self.rows if row.curves.get(name)]
        xs = sorted(set.intersection(*map(set, curves))) if curves else []
        ys = [[curve[x] for curve in curves] for x in xs]
        return xs, [fmean(y) for y in ys], [_deviation(y) for y in ys]

    def _values(self, metric: str) -> list[float]:
        return [row.metrics[metric] for row in self.rows if isfinite(row.metrics.get(metric, float("nan")))]


def series(points: Sequence[Point], metric: str, x: Literal["width", "size"]) -> Line:
    """A metric of models against their width or size, of those that have both."""
    known: list[tuple[float, float, float]] = []
    for point in points:
        at, mean = getattr(point, x), point.mean(metric)
        if at and mean is not None:  # 0 has no place on a logarithmic axis
            known.append((at, mean, point.deviation(metric)))
    return [each[0] for each in known], [each[1] for each in known], [each[2] for each in known]


@dataclass(frozen=True)
class Twins:
    """A run of two variants. `base` is the stage that trained them."""

    results: Results
    real: str
    fake: str
    base: str

    @property
    def variants(self) -> tuple[str, str]:
        """Real first."""
        return self.real, self.fake

    @property
    def seeds(self) -> int:
        """How many seeds were run."""
        return len({row.seed for row in self.results.rows})

    def chance(self) -> float:
        """The accuracy of guessing: 1 / classes as noted by the run, 0.1 (ten digits) where it is not."""
        classes = self.results.about.get("classes")
        return 1 / max(classes, 1) if isinstance(classes, int) else 0.1

    def repeated(self) -> list[str]:
        """Stages with rounds, in the recipe's order; of a fanned-out one every member (`noise@sparsity=0.5`)."""
        return self._stages(lambda row: row.round is not None)

    def noise_stages(self) -> list[str]:
        """Those whose students were taught on noise."""
        return [stage for stage in self.repeated() if self.noise(stage)]

    def strategies(self) -> list[str]:
        """Every other stage but the base: pruning, distillation, nets trained directly."""
        others = (self.base, *self.noise_stages())
        return self._stages(lambda row: row.uses != "init" and _family(row) not in others)

    def teachers(self) -> Pair:
        """The twins themselves."""
        return self._last(self.real), self._last(self.fake)

    def points(self, variant: str, stage: str) -> list[Point]:
        """The models of a stage, seeds together, by round (members of `sweep` in the recipe's order)."""
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in self.results.rows:
            if (row.variant, _family(row)) == (variant, stage):
                groups.setdefault((row.round or 0, row.member), []).append(row)
        return [Point(rows) for _, rows in sorted(groups.items(), key=lambda item: item[0][0])]

    def pairs(self, stage: str) -> list[Pair]:
        """Real and fake of each round that either has."""
        real, fake = ({p.round: p for p in self.points(v, stage)} for v in self.variants)
        return [(real.get(n), fake.get(n)) for n in sorted({*real, *fake}, key=lambda n: n or 0)]

    def noise(self, stage: str) -> Mapping[str, Any]:
        """What a stage noted of its noise (kind, labels …), as its first noted round has it; empty for others."""
        notes = (point.rows[0].notes.get("noise") for v in self.variants for point in self.points(v, stage))
        return next((noise for noise in notes if isinstance(noise, Mapping)), {})

    def described(self, stage: str) -> str:
        """`blog (uniform noise, hard labels)`, or its name alone where no noise was noted."""
        noise = self.noise(stage)
        labels = str(noise.get("labels"))
        told = f"{noise.get('kind')} noise, {labels if labels == 'logits' else f'{labels} labels'}"
        return f"{stage} ({told})" if noise else stage

    def _last(self, variant: str) -> Point | None:
        points = self.points(variant, self.base)
        return points[-1] if points else None

    def _stages(self, wanted: Callable[[Row], bool]) -> list[str]:
        rows = (row for row in self.results.rows if row.variant in self.variants and wanted(row))
        return list(dict.fromkeys(_family(row) for row in rows))


def _family(row: Row) -> str:
    """What is drawn as one line: a stage, or all members of a fanned-out stage without rounds."""
    return f"{row.stage}@{row.member}" if row.round is not None and row.member else row.stage


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
