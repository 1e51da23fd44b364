"""`sweep` at the top of a recipe: variants of data, model and init options."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tiny import Lab, plan_of

from compressit.results.collect import collect
from compressit.results.tables import all_models, over_seeds

from .samples import BASE, Parse, Problems, told

SWEEP = "sweep: {model.with.hidden: [[4], [6, 6]], data.with.images: [20, 30]}\n"


def test_a_sweep_makes_a_variant_of_every_combination_the_last_key_fastest(parse: Parse) -> None:
    variants = parse(BASE + SWEEP).variants
    assert [variant.name for variant in variants] == [
        "hidden=4,images=20", "hidden=4,images=30", "hidden=6-6,images=20", "hidden=6-6,images=30",
    ]  # fmt: skip
    for variant, (hidden, images) in zip(
        variants, [([4], 20), ([4], 30), ([6, 6], 20), ([6, 6], 30)], strict=True
    ):
        assert variant.swept == (("model.with.hidden", hidden), ("data.with.images", images))
        assert variant.model.use is not None
        assert (variant.model.use.config["hidden"], variant.data.config["images"]) == (hidden, images)


def test_variants_are_swept_each_and_share_what_does_not_differ(parse: Parse) -> None:
    text = BASE + "variants: {a: {}, b: {data: {with: {labels: random}}}}\nsweep: {model.init.draw: [0, 1]}\n"
    assert [variant.name for variant in parse(text).variants] == [
        "a,draw=0",
        "a,draw=1",
        "b,draw=0",
        "b,draw=1",
    ]
    plan = plan_of(text)
    assert sum(job.kind == "init" for job in plan.jobs.values()) == 2, (
        "one for each draw, not for each variant"
    )
    plain = plan_of(BASE)
    assert plan.points[0].path == "a,draw=0/seed0/fit"
    assert plan.points[0].model == plain.points[0].model, "a default value is the default"


def test_a_setting_replaces_the_values(parse: Parse) -> None:
    recipe = parse(BASE + "sweep: {model.init.scale: [1, 2]}\n", settings=["sweep.model.init.scale=[3]"])
    assert [variant.name for variant in recipe.variants] == ["scale=3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "sweep: {stages.train.with.epochs: [1]}",
            "7:9: sweep: 'stages.train.with.epochs' is no option of the data",
        ),
        ("sweep: {model: [1]}", "7:9: sweep: 'model' is no option of the data or the model"),
        ("sweep: {model.with.hidden: 3}", "7:28: sweep.model.with.hidden must be a list"),
        ("sweep: {model.with.hiden: [3]}", "unknown key 'hiden' in model.with"),
        ("sweep: {data.with.images: [0]}", "data.with.images must be"),
        ("sweep: {data.with.images: [2, 2]}", "7:31: sweep gives two variants called 'images=2'"),
        (
            "sweep: {model.init.scale: [1], model.init: [{}]}",
            "'model.init' and 'model.init.scale' vary the same",
        ),
    ],
)
def test_a_mistake_in_a_sweep(problems: Problems, text: str, expected: str) -> None:
    lines = told(problems(f"{BASE}{text}\n"))
    assert any(expected in line for line in lines), lines


def test_what_is_swept_cannot_be_written_too(problems: Problems) -> None:
    text = BASE.replace("{uses: tiny.data}", "{uses: tiny.data, with: {images: 9}}")
    (line,) = told(problems(text + "variants: {a: {}, b: {}}\nsweep: {data.with.images: [20]}\n"))
    assert "data.with.images has no effect: `sweep` varies data.with.images" in line
    assert line.startswith("r.yaml:3:")


def test_too_many_variants_are_refused_before_they_are_made(problems: Problems) -> None:
    values = list(range(1, 1002))
    (line,) = told(problems(f"{BASE}sweep: {{data.with.images: {values}}}\n"))
    assert "1,001 variants" in line


def test_the_swept_options_are_columns_of_the_results(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    plan = lab.plan(BASE + SWEEP + "seeds: [0, 1]\nevaluate: [tiny.accuracy]\n")
    lab.run(plan)
    artifacts = {key: found for key in plan.jobs if (found := lab.store.find(key)) is not None}
    results = collect(plan, artifacts, [], "")
    results.write_csv(tmp_path / "results.csv")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert len(rows) == 8
    assert {(row["model.with.hidden"], row["data.with.images"]) for row in rows} == {
        ("[4]", "20"), ("[4]", "30"), ("[6, 6]", "20"), ("[6, 6]", "30"),
    }  # fmt: skip
    assert {(row["variant"], row["model.with.hidden"]) for row in rows if row["data.with.images"] == "20"} == {
        ("hidden=4,images=20", "[4]"), ("hidden=6-6,images=20", "[6, 6]"),
    }  # fmt: skip
    grouped = over_seeds(results)
    assert grouped is not None
    assert [row[0] for row in grouped.rows][:2] == [
        "hidden=4,images=20/fit",
        "hidden=4,images=30/fit",
    ]
    assert "model.with.hidden" not in all_models(results).columns, "the names say it"
    results.write_json(tmp_path / "results.json")
    assert type(results).read_json(tmp_path / "results.json").rows[0].swept == {
        "model.with.hidden": [4], "data.with.images": 20,
    }  # fmt: skip
