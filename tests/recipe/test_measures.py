"""What an item of `evaluate` can say: which models, which columns, and which models to compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressit.contract.kinds import Metric
from compressit.host.plugins import Host
from tests.recipe.samples import BASE, Parse, Problems, told, write_checkpoint

LADDER = (
    BASE + "  blog: {uses: tiny.shrink, repeat: 3}\n"
    "  prune: {uses: tiny.prune, needs: fit, sweep: {with.sparsity: [0.5, 0.9]}}\n"
    "  tune: {uses: tiny.train}\n"
    "seeds: [0, 3]\n"
    "variants: {real: {}, random: {data: {with: {labels: random}}, stages: {tune: null}}}\n"
)
"""The next line is the twelfth."""


def test_an_item_says_evaluator_models_and_columns(parse: Parse):
    recipe = parse(
        LADDER + 'evaluate: [tiny.size, {uses: tiny.accuracy, stages: [fit, "blog*", init], as: far}]\n'
    )
    plain, told_apart = recipe.variants[0].evaluate
    assert (plain.uses, plain.name, plain.stages) == ("tiny.size", "", None)
    assert (told_apart.uses, told_apart.name, told_apart.stages) == (
        "tiny.accuracy",
        "far",
        ("fit", "blog*", "init"),
    )


def test_an_evaluator_stands_twice_if_its_columns_have_a_name(parse: Parse):
    twice = "evaluate: [tiny.gap, {uses: tiny.gap, with: {scale: 2.0}, as: twice}]\n"
    assert [measure.name for measure in parse(BASE + twice).variants[0].evaluate] == ["", "twice"]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("[tiny.gap, {uses: tiny.gap, with: {scale: 2.0}}]", "12:22: evaluate.1: tiny.gap measures weights, logits"),
        ("[{uses: tiny.gap, as: a}, {uses: tiny.gap, with: {scale: 2.0}, as: a}]", "12:78: evaluate.1: tiny.gap"),
        ("[{uses: tiny.gap, as: a}, {uses: tiny.gap, as: b}]", "12:37: evaluate.1: tiny.gap is listed twice"),
        ("[{uses: tiny.gap, as: a-b}]", "12:33: evaluate.0.as"),
        ("[{uses: tiny.gap, stages: []}]", "12:37: evaluate.0.stages"),
        ("[{uses: tiny.gap, stage: fit}]", "12:29: unknown key 'stage' in evaluate.0"),
        ("[{uses: tiny.gap, stages: [fit, blag-01]}]", "12:43: evaluate.0.stages: 'blag-01' matches no model"),
        ("[{uses: tiny.gap, stages: [blog-04]}]", "12:38: evaluate.0.stages: 'blog-04' matches no model"),
        ("[{uses: tiny.gap, with: {other: lost}}]", "12:43: evaluate.0.with.other names no stage: 'lost'"),
        ("[{uses: tiny.gap, with: {other: blog-04}}]", "12:43: evaluate.0.with.other names no model: 'blog-04'"),
        ("[{uses: tiny.gap, with: {other: prune@sparsity=1}}]", "12:43: evaluate.0.with.other names no model"),
        ("[{uses: tiny.gap, with: {other: fit@seed=1}}]", "12:43: evaluate.0.with.other names no seed"),
        ("[{uses: tiny.gap, with: {other: fit@variant=x}}]", "12:43: evaluate.0.with.other names no variant"),
        ("[{uses: tiny.gap, with: {other: tune@variant=random, }}]", "12:43: evaluate.0.with.other names no model in"),
        ("[{uses: tiny.gap, with: {other: prune}}]", "12:43: evaluate.0.with.other names the model 'prune'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(problems: Problems, items: str, expected: str):
    lines = told(problems(f"{LADDER}evaluate: {items}\n"))  # the variants have different models to list
    assert all(line.startswith(f"r.yaml:{expected}") for line in lines), lines


def test_a_mistake_lists_the_models_that_exist(problems: Problems):
    text = LADDER.replace(" repeat: 3", " repeat: 2") + "evaluate: [{uses: tiny.gap, stages: [x]}]\n"
    for problem in problems(text):
        assert "blog, blog-01, blog-02" in str(problem.hint)
        assert "prune@sparsity=0.5, prune@sparsity=0.9" in str(problem.hint)


def test_a_column_must_not_be_one_of_the_hosts(
    problems: Problems, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host.find("tiny.gap").plugin, "metrics", {"ratio": Metric("higher", "fraction")})
    (line,) = told(problems(BASE + "evaluate: [{uses: tiny.gap, as: compression}]\n"))
    assert line.startswith("r.yaml:7:33: evaluate.0.as: the column 'compression_ratio'")


@pytest.mark.parametrize(
    "other",
    [
        "init", "fit", "blog", "blog-02", "prune@sparsity=0.5", "fit@seed=3", "blog-02@seed=0", "fit@variant=random",
        "prune@sparsity=0.9@variant=random@seed=3", "init@seed=3",
    ],
)  # fmt: skip
def test_an_evaluator_can_name_any_model(parse: Parse, other: str):
    recipe = parse(f"{LADDER}evaluate: [{{uses: tiny.gap, with: {{other: '{other}'}}}}]\n")
    assert recipe.variants[0].evaluate[0].use.models == (other,)


def test_a_swept_stage_means_the_models_own_member(parse: Parse):
    parse(LADDER + "evaluate: [{uses: tiny.gap, with: {other: prune}, stages: ['prune*']}]\n")


def test_previous_needs_a_model_before(parse: Parse, problems: Problems):
    parse(LADDER + "evaluate: [tiny.gap]\n")
    (line, *others) = told(problems(LADDER + "evaluate: [{uses: tiny.gap, stages: ['*']}]\n"))
    assert not others
    assert "there is none before 'init'" in line


def test_stages_of_several_variants_must_not_need_each_other_in_a_circle(parse: Parse, problems: Problems):
    text = (
        BASE + "  last: {uses: tiny.prune}\n"
        "variants:\n"
        "  a: {stages: {last: {with: {rewind: fit@variant=b}}}}\n"
        "  b: {stages: {fit: {uses: tiny.prune, with: {rewind: last@variant=a}}}}\n"
    )
    (problem,) = problems(text)
    assert str(problem).startswith("r.yaml:9:38:")
    assert "in a circle: last (a) -> fit (b) -> last (a)" in problem.message
    parse(text.replace("last@variant=a", "fit@variant=a"))


def test_a_model_of_other_data_must_take_the_same_inputs(problems: Problems, parse: Parse):
    variants = "variants: {a: {}, b: {data: {with: {scale: standard}}}}\n"
    text = BASE + variants + "evaluate: [{uses: tiny.gap, with: {other: fit@variant=a}}]\n"
    (line,) = told(problems(text))
    assert line.startswith("r.yaml:8:43: evaluate.0.with.other names 'fit@variant=a'")
    parse(text.replace("standard", "unit"))


def test_variants_and_settings_replace_the_whole_list(parse: Parse):
    text = LADDER + "evaluate: [tiny.gap]\n"
    recipe = parse(text, settings=["evaluate=[{uses: tiny.gap, as: x, stages: [fit]}]"])
    assert {measure.name for variant in recipe.variants for measure in variant.evaluate} == {"x"}


# Recipes that only measure

ONLY = "version: 1\nname: demo\ndata: {uses: tiny.data}\n"


def test_a_recipe_may_only_measure_files(parse: Parse, tmp_path: Path):
    for name in ("a", "b"):
        write_checkpoint(tmp_path / f"{name}.safetensors")
    listed = parse(ONLY + "model: {from: [a.safetensors, b.safetensors]}\nevaluate: [tiny.size]\n")
    named = parse(ONLY + "model: {from: {x: b.safetensors}}\nstages: {}\nevaluate: [tiny.size]\n")
    a, b = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert listed.variants[0].model.files == (("a", a), ("b", b))
    assert named.variants[0].model.files == (("x", b),)
    assert parse(ONLY + "model: {from: a.safetensors}\nevaluate: [tiny.size]\n").variants[0].stages == ()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("model: {from: [a.safetensors, no.safetensors]}", "4:31: model.from.1: there is no file no.safetensors"),
        ("model: {from: {x: a.pth}}", "4:19: model.from.x must be a .safetensors file"),
        ("model: {from: {x y: a.safetensors}}", "4:16: model.from.x y: its row would be called 'x y', which cannot"),
        ("model: {from: {init: a.safetensors}}", "4:16: model.from.init: its row would be called 'init', which is"),
        ("model: {from: [a.safetensors, ./a.safetensors]}", "4:31: model.from.1: its row would be called 'a'"),
        ("model: {from: []}", "4:15: model.from names no file"),
        ("model: {from: [a.safetensors]}\nstages: {fit: {uses: tiny.train}}", "4:15: model.from names several files"),
        ("model: {from: [a.safetensors]}\nevaluate: [{uses: tiny.gap, with: {other: b}}]", "5:43: evaluate.0.with"),
        ("model: {from: [a.safetensors]}\nevaluate: [{uses: tiny.gap, stages: [init]}]", "5:38: evaluate.0.stages"),
        ("model: {uses: tiny.mlp}", "1:1: the recipe does nothing"),
        ("model: {uses: tiny.mlp}\nevaluate: [tiny.size]", "1:1: the recipe does nothing"),
        ("model: {from: [a.safetensors]}\nevaluate: []", "1:1: the recipe does nothing"),
    ],
)  # fmt: skip
def test_a_mistake_in_such_a_recipe_is_told(problems: Problems, tmp_path: Path, more: str, expected: str):
    write_checkpoint(tmp_path / "a.safetensors")
    evaluate = "" if "evaluate" in more or "nothing" in expected else "\nevaluate: [tiny.size]"
    lines = told(problems(f"{ONLY}{more}{evaluate}\n"))
    assert lines[0].startswith(f"r.yaml:{expected}"), lines
    assert len(lines) == 1, lines


def test_fresh_weights_can_be_all_that_is_measured(parse: Parse):
    parse(ONLY + "model: {uses: tiny.mlp}\nevaluate: [{uses: tiny.size, stages: [init]}]\n")
