"""The rows of a twins run, grouped for figures and text: seeds of a model together, by stage and round."""

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
    """One model of one variant with all its seeds (at least one row)."""

    rows: Sequence[Row]

    @property
    def round(self) -> int | None:
        """From 1 in a repeated stage, else None."""
        return self.rows[0].round

    @property
    def width(self) -> float | None:
        """The width of the widest hidden layer; None if unknown."""
        width = self.rows[0].notes.get("width")
        return float(width) if isinstance(width, int | float) else None

    @property
    def size(self) -> float | None:
        """Nonzero parameters; all parameters if nonzero ones were not counted."""
        return self.mean("nonzero") or self.mean("parameters")

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds with a finite value; None if there are none."""
        values = self._values(metric)
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float:
        """Sample standard deviation over seeds; 0 for fewer than two."""
        return _deviation(self._values(metric))

    def curve(self, name: str) -> Line:
        """The curve's mean and deviation at each x that all seeds with this curve share; empty if no seed has it."""
        curves = [dict(row.curves[name]) for row in self.rows if row.curves.get(name)]
        xs = sorted(set.intersection(*map(set, curves))) if curves else []
        ys = [[curve[x] for curve in curves] for x in xs]
        return xs, [fmean(y) for y in ys], [_deviation(y) for y in ys]

    def _values(self, metric: str) -> list[float]:
        return [row.metrics[metric] for row in self.rows if isfinite(row.metrics.get(metric, float("nan")))]


def series(points: Sequence[Point], metric: str, x: Literal["width", "size"]) -> Line:
    """A metric against width or size, for the models that have both."""
    known: list[tuple[float, float, float]] = []
    for point in points:
        at, mean = getattr(point, x), point.mean(metric)
        if at and mean is not None:  # 0 cannot be shown on a logarithmic axis
            known.append((at, mean, point.deviation(metric)))
    return [each[0] for each in known], [each[1] for each in known], [each[2] for each in known]


@dataclass(frozen=True)
class Twins:
    """A run with two variants. `base` is the stage that trained them."""

    results: Results
    real: str
    fake: str
    base: str

    @property
    def variants(self) -> tuple[str, str]:
        """The two variants, real first."""
        return self.real, self.fake

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len({row.seed for row in self.results.rows})

    def chance(self) -> float:
        """The accuracy of guessing: 1 / number of classes, or 0.1 (ten digits) if the run did not note it."""
        classes = self.results.about.get("classes")
        return 1 / max(classes, 1) if isinstance(classes, int) else 0.1

    def repeated(self) -> list[str]:
        """Stages with rounds, in the recipe's order; every member of a swept stage (`noise@sparsity=0.5`)."""
        return self._stages(lambda row: row.round is not None)

    def noise_stages(self) -> list[str]:
        """Repeated stages whose students learn from noise."""
        return [stage for stage in self.repeated() if self.noise(stage)]

    def strategies(self) -> list[str]:
        """All other stages except the base: pruning, distillation, nets trained directly."""
        others = (self.base, *self.noise_stages())
        return self._stages(lambda row: row.uses != "init" and _family(row) not in others)

    def teachers(self) -> Pair:
        """The models of the base stage: the twins themselves."""
        return self._last(self.real), self._last(self.fake)

    def points(self, variant: str, stage: str) -> list[Point]:
        """The models of a stage, with seeds grouped, by round (members of `sweep` in the recipe's order)."""
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in self.results.rows:
            if (row.variant, _family(row)) == (variant, stage):
                groups.setdefault((row.round or 0, row.member), []).append(row)
        return [Point(rows) for _, rows in sorted(groups.items(), key=lambda item: item[0][0])]

    def pairs(self, stage: str) -> list[Pair]:
        """Real and fake model of each round that at least one variant has."""
        real, fake = ({p.round: p for p in self.points(v, stage)} for v in self.variants)
        return [(real.get(n), fake.get(n)) for n in sorted({*real, *fake}, key=lambda n: n or 0)]

    def noise(self, stage: str) -> Mapping[str, Any]:
        """What the first round of a stage noted about its noise (kind, labels …); empty for other stages."""
        notes = (point.rows[0].notes.get("noise") for v in self.variants for point in self.points(v, stage))
        return next((noise for noise in notes if isinstance(noise, Mapping)), {})

    def described(self, stage: str) -> str:
        """`blog (uniform noise, hard labels)`; only the stage's name if it noted no noise."""
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
    """The name of what is drawn as one line: a member with rounds, or a stage (with all members without rounds)."""
    return f"{row.stage}@{row.member}" if row.round is not None and row.member else row.stage


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
