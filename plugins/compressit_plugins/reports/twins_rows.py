"""The rows of a twins run, sorted for its figures and words: variants, stages, models over their seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev
from typing import Any

from compressit import Results, Row

Line = tuple[list[float], list[float], list[float]]  # x, mean, standard deviation (0 for one seed)
Pair = tuple["Point | None", "Point | None"]  # real and fake


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
    def noise(self) -> Mapping[str, Any]:
        """What the stage noted about its noise: kind, labels, redraw, images; empty for other stages."""
        noise = self.rows[0].notes.get("noise")
        return noise if isinstance(noise, Mapping) else {}

    @property
    def images_seen(self) -> int | None:
        """Noise images the student was trained on in all, when noted."""
        seen = self.rows[0].notes.get("images_seen")
        return int(seen) if isinstance(seen, int | float) else None

    def values(self, metric: str) -> list[float]:
        """The metric of each seed that has it as a finite number."""
        values = [row.metrics[metric] for row in self.rows if metric in row.metrics]
        return [value for value in values if isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Mean over seeds, or None where it was not measured."""
        values = self.values(metric)
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float:
        """Sample standard deviation over seeds; 0 for fewer than two."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else 0.0

    def curve(self, name: str) -> Line:
        """A curve over seeds, at those x that every seed with this curve has; empty when nobody has it."""
        curves = [dict(row.curves[name]) for row in self.rows if row.curves.get(name)]
        if not curves:
            return [], [], []
        xs = sorted(x for x in curves[0] if all(x in other for other in curves))
        ys = [[curve[x] for curve in curves] for x in xs]
        return xs, [fmean(y) for y in ys], [stdev(y) if len(y) > 1 else 0.0 for y in ys]


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
    def missing(self) -> list[str]:
        """Which of the two variants has no row."""
        there = {row.variant for row in self.results.rows}
        return [variant for variant in self.variants if variant not in there]

    @property
    def seeds(self) -> int:
        """How many seeds were run."""
        return len({row.seed for row in self.results.rows})

    def chance(self) -> float:
        """The accuracy of guessing: 1 / classes as noted by the run, 0.1 (ten digits) where it is not."""
        noted = [self.results.about, *(row.notes for row in self.results.rows)]
        classes = next((n["classes"] for n in noted if isinstance(n.get("classes"), int)), 10)
        return 1 / max(classes, 1)

    def differ_in_labels_alone(self) -> bool:
        """Whether the recipe gives both variants the same data, model and stages, but for the labels."""
        variants = self.results.config.get("variants", {})
        told = [json.loads(json.dumps(variants.get(name))) for name in self.variants]
        if None in told:
            return False
        for variant in told:
            for option in ("labels", "label_fraction", "seed"):
                variant["data"]["config"].pop(option, None)
            variant.pop("name", None)
        return told[0] == told[1]

    def repeated(self) -> list[str]:
        """Stages with rounds, in the recipe's order; of a fanned-out one every member (`noise@sparsity=0.5`)."""
        return self._stages(lambda row: row.round is not None)

    def noise_stages(self) -> list[str]:
        """Ladders whose students were taught on noise."""
        return self._stages(lambda row: row.round is not None and isinstance(row.notes.get("noise"), Mapping))

    def strategies(self) -> list[str]:
        """Every other stage but the base: pruning, distillation, nets trained directly."""
        noisy = self.noise_stages()
        return self._stages(lambda row: row.uses != "init" and _family(row) not in (self.base, *noisy))

    def teacher(self, variant: str) -> Point | None:
        """The twin itself."""
        points = self.points(variant, self.base)
        return points[-1] if points else None

    def points(self, variant: str, stage: str) -> list[Point]:
        """The models of a stage, seeds together, by round (members of `sweep` in the recipe's order)."""
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in self.results.rows:
            if (row.variant, _family(row)) == (variant, stage):
                groups.setdefault((row.round or 0, row.member), []).append(row)
        ordered = sorted(groups.items(), key=lambda item: item[0][0])
        return [Point(tuple(rows)) for _, rows in ordered]

    def pairs(self, stage: str) -> list[Pair]:
        """Real and fake of each round that either has."""
        by_round = [
            {point.round: point for point in self.points(variant, stage)} for variant in self.variants
        ]
        rounds = sorted({number for points in by_round for number in points if number is not None})
        return [(by_round[0].get(number), by_round[1].get(number)) for number in rounds]

    def about_noise(self, stage: str) -> Mapping[str, Any]:
        """The noise of a stage, as its first noted round has it."""
        points = [point for variant in self.variants for point in self.points(variant, stage)]
        return next((point.noise for point in points if point.noise), {})

    def described(self, stage: str) -> str:
        """` (uniform noise, hard labels)`, or nothing where no noise was noted."""
        noise = self.about_noise(stage)
        labels = {"hard": "hard labels", "soft": "soft labels"}
        known = [f"{noise['kind']} noise"] if noise.get("kind") else []
        known += [labels.get(noise["labels"], str(noise["labels"]))] if noise.get("labels") else []
        return f" ({', '.join(known)})" if known else ""

    def _stages(self, wanted: Callable[[Row], bool]) -> list[str]:
        rows = (row for row in self.results.rows if row.variant in self.variants and wanted(row))
        return list(dict.fromkeys(_family(row) for row in rows))


def _family(row: Row) -> str:
    """What is drawn as one line: a stage, or all members of a fanned-out stage without rounds."""
    return f"{row.stage}@{row.member}" if row.round is not None and row.member else row.stage
