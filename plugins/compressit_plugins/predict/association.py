"""What a measure of nets says about what compression leaves of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from compressit import Estimate, Results, Row, Streams, estimate

FEWEST = 4
"""Nets that a correlation needs; with three, every order has a chance of a third."""

Net = tuple[str, int]
"""A net before compression: variant and seed."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Case:
    """A compressed model beside the dense one that it was made from."""

    net: Net
    method: str  # the stage
    point: str  # the model's name: the stage with its member and round
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True)
class Association:
    """The rank correlation of a measure before compression with the share of a column that survives."""

    measure: str
    survives: str
    method: str  # a stage, or "all"
    rho: float  # Spearman's, within each operating point, averaged over these
    low: float  # of the 95 % interval: percentiles of resampled nets
    high: float
    p: float  # of so large a correlation by chance: permutations of the nets
    nets: int
    points: int


@dataclass(frozen=True)
class Change:
    """What became of a measure: the ratio of its value after compression to that before."""

    measure: str
    method: str
    ratio: Estimate  # of logarithms, over the nets: e to its mean is the geometric mean of ratios


def cases(results: Results, stages: Sequence[str]) -> Sequence[Case]:
    """Every compressed model whose dense parent has a row."""
    named = {(row.variant, row.seed, row.name): row for row in results.rows}
    found: list[Case] = []
    for row in results.rows:
        dense = named.get((row.variant, row.seed, row.dense or ""))
        if dense is None or dense.name == row.name or not any(fnmatchcase(row.stage, s) for s in stages):
            continue
        found.append(Case((row.variant, row.seed), row.stage, row.name, _finite(dense), _finite(row)))
    return found


def associations(
    found: Sequence[Case], measures: Sequence[str], survives: Sequence[str], draws: int
) -> Sequence[Association]:
    """The correlation of every measure with every outcome, over all methods and for each, where there are enough nets
    and both vary."""
    methods = list(dict.fromkeys(case.method for case in found))
    made = [
        _association(measure, outcome, method, found, draws)
        for outcome in survives
        for method in ("all", *(methods if len(methods) > 1 else ()))
        for measure in measures
    ]
    return [one for one in made if one is not None]


def _association(
    measure: str, outcome: str, method: str, found: Sequence[Case], draws: int
) -> Association | None:
    own = [case for case in found if method in ("all", case.method)]
    nets = sorted({case.net for case in own if measure in case.before})
    points = list(dict.fromkeys(case.point for case in own))
    x = np.full(len(nets), math.nan)
    y = np.full((len(points), len(nets)), math.nan)
    for case in own:
        if measure in case.before and case.before.get(outcome) and outcome in case.after:
            net = nets.index(case.net)
            x[net] = case.before[measure]
            y[points.index(case.point), net] = case.after[outcome] / case.before[outcome]
    whole = ~np.isnan(y).any(axis=0)  # nets that have every point, so that all points tell of the same nets
    x, y = x[whole], y[:, whole]
    rho = float(mean_spearman(x, y)) if len(x) else math.nan
    if len(x) < FEWEST or math.isnan(rho):
        return None
    rng = np.random.default_rng(Streams(0, "predictors").number(measure))
    picked = rng.integers(len(x), size=(draws, len(x)))
    resampled = mean_spearman(x[picked], y[:, picked].swapaxes(0, 1))
    shuffled = mean_spearman(rng.permuted(np.tile(x, (draws, 1)), axis=1), y[None])
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    by_chance = (abs(shuffled) >= abs(rho) - 1e-12).sum()
    chance = (int(by_chance) + 1) / (draws + 1)  # the observed order is one of them (Phipson & Smyth 2010)
    return Association(
        measure, outcome, method, rho, float(low), float(high), chance, len(x), int(y.shape[0])
    )


def mean_spearman(x: Floats, y: Floats) -> Floats:
    """The mean over points of Spearman's rank correlation of x (…, nets) with y (…, points, nets), shape (…); NaN where
    x or every point of y does not vary. Ties have their mean rank."""
    from scipy.stats import rankdata

    a, b = rankdata(x, axis=-1)[..., None, :], rankdata(y, axis=-1)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    products, varies = (a * b).sum(axis=-1), scale > 0
    each = np.divide(products, scale, out=np.zeros_like(products), where=varies)
    known = varies.sum(axis=-1)
    return np.where(known > 0, each.sum(axis=-1) / np.maximum(known, 1), math.nan)


def changes(found: Sequence[Case], measures: Sequence[str]) -> Sequence[Change]:
    """What became of every measure by every method, where values are above zero. A net's ratios are averaged over its
    operating points first: they are not independent."""
    made: list[Change] = []
    for measure in measures:
        for method in dict.fromkeys(case.method for case in found):
            logs: dict[Net, list[float]] = {}
            for case in found:
                one, two = case.before.get(measure, 0.0), case.after.get(measure, 0.0)
                if case.method == method and one > 0 and two > 0:
                    logs.setdefault(case.net, []).append(math.log(two / one))
            ratio = estimate([sum(of) / len(of) for of in logs.values()])
            if ratio is not None:
                made.append(Change(measure, method, ratio))
    return made


def _finite(row: Row) -> Mapping[str, float]:
    return {name: float(value) for name, value in row.metrics.items() if math.isfinite(value)}
