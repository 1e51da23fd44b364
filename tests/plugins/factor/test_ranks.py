"""Ranks of several layers: within the budget, and near the best of all choices."""

from __future__ import annotations

import itertools
import random

from compressit_plugins.factor.ranks import Layer, within_budget


def test_what_the_last_step_saved_too_much_is_given_back() -> None:
    steep = Layer([100.0] + [1.0] * 9, whole=60, unit=10)
    assert within_budget([steep], 50) == [5]
    assert within_budget([steep], 10) == [1]
    assert within_budget([steep], 9) is None


def test_few_choices_of_all_keep_more() -> None:
    draw = random.Random(0)
    for _ in range(20):
        layers = [
            Layer(sorted((draw.expovariate(1) ** 3 for _ in range(6)), reverse=True), draw.randint(20, 60), 9)
            for _ in range(3)
        ]
        budget = 0.6 * sum(layer.whole for layer in layers)
        found = within_budget(layers, budget)

        def loss(ranks: object, layers: list[Layer] = layers) -> float:
            return sum(layer.loss(rank) for layer, rank in zip(layers, ranks, strict=True))

        every = itertools.product(*([None, *range(1, layer.most + 1)] for layer in layers))
        fits = [r for r in every if sum(x.cost(n) for x, n in zip(layers, r, strict=True)) <= budget]
        assert found is not None
        assert tuple(found) in fits
        assert sum(loss(ranks) < loss(found) - 1e-12 for ranks in fits) <= 0.1 * len(fits)
