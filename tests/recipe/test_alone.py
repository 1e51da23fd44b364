"""A variant written as a recipe of its own gives the same models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TWINS, recipe_of, tiny_host

from compressit.planning.plan import make_plan
from compressit.recipe.alone import alone
from compressit.recipe.load import parse_recipe
from compressit.recipe.written import yaml_of

from .samples import write_weights

PRUNED = TWINS.replace("uses: tiny.prune}", "uses: tiny.prune, with: {rewind: init, only: 1.weight}}")


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize(
    "text",
    [
        PRUNED,
        PRUNED.replace("name: tiny", "name: tiny\nseeds: [1, 2]\ncompute: {precision: fp64}"),
        PRUNED.replace(
            "model: {uses: tiny.mlp}",
            "model: {uses: tiny.mlp, weights: {file: w.safetensors, fresh: [1.weight]}, init: {draw: 2}}",
        ),
        PRUNED.replace("model:", "task: {with: {label_smoothing: 0.1}}\nmodel:"),
        PRUNED.replace("tiny.size,", "{uses: tiny.size, stages: [prune], as: small},"),
    ],
)
def test_it_reads_as_the_same_plan(tmp_path: Path, text: str, variant: int) -> None:
    host = tiny_host()
    write_weights(tmp_path / "w.safetensors")
    recipe = recipe_of(text, host, folder=tmp_path)
    chosen = recipe.variants[variant]
    again = yaml_of(alone(recipe, chosen, "other", "found: #1"))
    read = parse_recipe(
        again, "other.yaml", host, trust=lambda plugin: True, path=Path("/elsewhere/other.yaml")
    )
    assert (read.name, read.description) == ("other", "found: #1")

    def keys(plan: object) -> list[tuple[str, str, list[tuple[str, str]]]]:
        return [(p.path.split("/", 1)[1], p.model, [*p.metrics.items()]) for p in plan.points]  # type: ignore

    assert keys(make_plan(read, host)) == keys(make_plan(replace(recipe, variants=(chosen,)), host))
