"""A recipe's text to a Recipe: what is resolved how, and every mistake with its file, line and column."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BASE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compressit.errors import CompressitError, Problem, RecipeError
from compressit.plugins import Host, file_digest
from compressit.recipe.load import load_recipe, parse_recipe
from compressit.recipe.model import LocalPlugin, Recipe, Stage

Parse = Callable[..., Recipe]
Problems = Callable[..., list[Problem]]


def told(problems: list[Problem]) -> list[str]:
    """The first line of every problem: `file:line:column: message`."""
    return [str(problem).split("\n")[0] for problem in problems]


def stages(recipe: Recipe, variant: int = 0) -> dict[str, Stage]:
    return {stage.name: stage for stage in recipe.variants[variant].stages}


# What a recipe becomes


def test_the_smallest_recipe_has_every_default_written_out(parse: Parse):
    recipe = parse(BASE)
    assert (recipe.name, recipe.seeds, recipe.report, recipe.profile) == ("demo", (0,), (), None)
    (variant,) = recipe.variants
    assert (variant.name, variant.evaluate) == ("base", ())
    assert variant.data.config["scale"] == "unit"
    assert variant.model.use is not None
    assert variant.model.use.config == {"hidden": [8]}
    (stage,) = variant.stages
    assert stage.use.config["optimizer"] == {"name": "sgd", "lr": 0.1, "momentum": 0.0}
    assert (stage.needs, stage.repeat, stage.feed, stage.each) == ("init", None, "previous", ())
    assert stage.members == (("", stage.use),)


def test_a_stage_needs_the_one_before_it_and_stages_come_in_an_order_that_runs(parse: Parse):
    recipe = parse(BASE + "  late: {uses: prune.structured, needs: early, with: {amount: 0.5}}\n"
                          "  early: {uses: train.fake, needs: fit}\n  last: {uses: train.fake}\n")  # fmt: skip
    assert [(s.name, s.needs) for s in recipe.variants[0].stages] == [
        ("fit", "init"),
        ("early", "fit"),
        ("late", "early"),
        ("last", "early"),
    ]


def test_references_are_edges_and_checkpoints_become_absolute_paths(parse: Parse, tmp_path: Path):
    (tmp_path / "old.safetensors").touch()
    old = str(tmp_path / "old.safetensors")
    recipe = parse(BASE + "  d: {uses: distill.fake, needs: fit, with: {teachers: [later, old.safetensors, previous]}}\n"
                          "  later: {uses: prune.structured, needs: fit, with: {amount: 0.5, rewind: init}}\n")  # fmt: skip
    assert [s.name for s in recipe.variants[0].stages] == ["fit", "later", "d"]
    assert stages(recipe)["d"].refs == ("later", old)
    assert stages(recipe)["d"].use.config == {"teachers": ["later", old, "previous"]}
    assert stages(recipe)["later"].refs == ("init",)


def test_each_gives_a_member_for_every_combination(parse: Parse):
    text = "  p: {uses: prune.structured, each: {with.amount: [0.5, 0.8], with.rewind: [init, null]}}\n"
    stage = stages(parse(BASE + text))["p"]
    assert [(label, use.config["amount"], use.config["rewind"]) for label, use in stage.members] == [
        ("amount=0.5,rewind=init", 0.5, "init"),
        ("amount=0.5,rewind=null", 0.5, None),
        ("amount=0.8,rewind=init", 0.8, "init"),
        ("amount=0.8,rewind=null", 0.8, None),
    ]
    assert stage.each == (("with.amount", (0.5, 0.8)), ("with.rewind", ("init", None)))
    assert stage.use == stage.members[0][1]
    assert stage.refs == ("init",)


def test_each_reaches_nested_options_and_leaves_the_others(parse: Parse):
    text = BASE.replace("train.fake}", "train.fake, with: {epochs: 7}, each: {with.optimizer.lr: [1, 2]}}")
    members = stages(parse(text))["fit"].members
    assert [(m, u.config["epochs"], u.config["optimizer"]["lr"]) for m, u in members] == [
        ("lr=1", 7, 1.0),
        ("lr=2", 7, 2.0),
    ]


def test_base_then_profile_then_variant_then_settings(parse: Parse):
    text = (
        BASE.replace(
            "data.fake}", "data.fake, with: {limit: 1, validation: 1, seed: 1, label_fraction: 0.1}}"
        )
        + "variants: {a: {data: {with: {seed: 3, label_fraction: 0.3}}}, b: }\n"
        + "profiles: {p: {data: {with: {validation: 2, seed: 2, label_fraction: 0.2}}}}\n"
    )
    one, two = parse(text, profile="p", settings=["data.with.label_fraction=0.4"]).variants
    keys = ("limit", "validation", "seed", "label_fraction")
    assert [one.data.config[k] for k in keys] == [1, 2, 3, 0.4]
    assert [two.data.config[k] for k in keys] == [1, 2, 2, 0.4]
    assert (one.name, two.name) == ("a", "b")


def test_variants_may_add_drop_and_replace_stages(parse: Parse):
    text = BASE + "  cut: {uses: prune.structured, with: {amount: 0.5}}\nvariants:\n"
    text += "  less: {stages: {fit: null}}\n  more: {stages: {tune: {uses: train.fake}}}\n"
    text += (
        "  other: {stages: {cut: {uses: train.fake}}, evaluate: [eval.fake], data: {uses: data.letters}}\n"
    )
    less, more, other = parse(text).variants
    assert [(s.name, s.needs) for s in less.stages] == [("cut", "init")]
    assert [(s.name, s.needs) for s in more.stages][1:] == [("cut", "fit"), ("tune", "cut")]
    assert "amount" not in other.stages[1].use.config
    assert (other.evaluate[0].uses, other.data.uses) == ("eval.fake", "data.letters")


def test_settings_reach_the_head_the_variants_and_stages_of_one_variant(parse: Parse):
    text = BASE + "variants: {a: {}, b: {stages: {extra: {uses: train.fake}}}}\n"
    changes = ["seeds=[3, 4]", "name=other", "compute.threads=2", "variants.a.data.with.limit=5"]
    recipe = parse(text, settings=[*changes, "stages.extra.with.epochs=9"])
    assert (recipe.seeds, recipe.name, recipe.compute.threads) == ((3, 4), "other", 2)
    assert [v.data.config["limit"] for v in recipe.variants] == [5, None]
    assert stages(recipe, 1)["extra"].use.config["epochs"] == 9


def test_evaluators_and_reports_are_names_or_blocks(parse: Parse):
    recipe = parse(
        BASE + "evaluate: [eval.fake, {uses: eval.fake, with: {batch_size: 128}}]\nreport: [report.fake]\n"
    )
    assert [use.config for use in recipe.variants[0].evaluate] == [{"batch_size": 1}, {"batch_size": 128}]
    assert [use.uses for use in recipe.report] == ["report.fake"]


def test_a_model_from_a_checkpoint_or_with_weights(parse: Parse, tmp_path: Path):
    (tmp_path / "w.safetensors").touch()
    (variant,) = parse(BASE.replace("{uses: model.fake}", "{from: w.safetensors}")).variants
    assert (variant.model.use, variant.model.checkpoint) == (None, tmp_path / "w.safetensors")
    (variant,) = parse(BASE.replace("model.fake}", "model.fake, weights: w.safetensors}")).variants
    assert (variant.model.checkpoint, variant.model.weights) == (None, tmp_path / "w.safetensors")


def test_anchors_serve_several_stages_and_an_empty_with_is_none(parse: Parse):
    text = BASE.replace("train.fake}", "train.fake, with: {optimizer: &o {lr: 3}}}")
    text += "  again: {uses: train.fake, with: {optimizer: *o}}\n  plain:\n    uses: train.fake\n    with:\n"
    found = stages(parse(text, settings=["stages.fit.with.optimizer.lr=4"]))
    assert [s.use.config["optimizer"]["lr"] for s in found.values()] == [4.0, 3.0, 0.1]


def test_recipe_load_reads_a_file(host: Host, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(BASE)
    recipe = Recipe.load(str(path), settings=["seeds=[1]"], host=host)
    assert (recipe.path, recipe.seeds) == (path, (1,))


# Mistakes in the envelope

E = BASE.replace("  fit: {uses: train.fake}\n", "")  # stages left open: line 6 is the first stage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE.replace("version: 1", "version: 2"), ["r.yaml:1:10: version must be 1 (got 2)"]),
        (BASE.replace("version: 1", "version: '1'"), ["r.yaml:1:10: version must be 1 (got '1')"]),
        (BASE.replace("version: 1\n", ""), ["r.yaml:1:1: the recipe must have 'version'"]),
        (BASE.replace("name: demo\n", ""), ["r.yaml:1:1: the recipe must have 'name'"]),
        (BASE.replace("data: {uses: data.fake}\n", ""), ["r.yaml:1:1: the recipe must have 'data'"]),
        (BASE.replace("{uses: data.fake}", "{}"), ["r.yaml:3:7: data must have 'uses'"]),
        (BASE.replace("{uses: data.fake}", "data.fake"), ["r.yaml:3:7: data must be a mapping (got 'data.fake')"]),
        (BASE.replace("{uses: data.fake}", ""), ["r.yaml:3:1: data must be a mapping (got null)"]),
        (BASE.replace("{uses: data.fake}", "{uses: 3}"), ["r.yaml:3:14: data.uses must be text (got 3)"]),
        (BASE + "sedes: [1]\n", ["r.yaml:7:1: unknown key 'sedes'"]),
        (BASE + "seeds: [1, 2, 1]\n", ["r.yaml:7:8: seeds must differ from each other"]),
        (BASE + "seeds: []\n", ["r.yaml:7:8: seeds must have at least 1 item (got an empty list)"]),
        (BASE + "seeds: [0, -1]\n", ["r.yaml:7:12: seeds.1 must be at least 0 (got -1)"]),
        (BASE + "seeds: [0, 1.5]\n", ["r.yaml:7:12: seeds.1 must be a whole number (got 1.5)"]),
        (BASE + "seeds: 3\n", ["r.yaml:7:8: seeds must be a list (got 3)"]),
        (BASE + "compute: {threads: 0}\n", ["r.yaml:7:20: compute.threads must be at least 1 or 'auto' (got 0)"]),
        (BASE + "compute: {device: gpu}\n", ["r.yaml:7:19: compute.device must be 'auto', 'cpu' or 'cuda' (got 'gpu')"]),
        (BASE + "compute: {compile: yes}\n", ["r.yaml:7:20: compute.compile must be true or false (got 'yes')"]),
        (BASE + "compute: {treads: 1}\n", ["r.yaml:7:11: unknown key 'treads' in compute"]),
        (E, ["r.yaml:5:1: stages must be a mapping (got null)"]),
        (E[:-1] + " {}", ["r.yaml:5:9: stages must have at least 1 item (got an empty mapping)"]),
        (E + "  - fit\n", ["r.yaml:6:3: stages must be a mapping (got a list)"]),
        (E + "  fit: train.fake\n", ["r.yaml:6:8: stages.fit must be a mapping (got 'train.fake')"]),
        (E + "  fit: {use: train.fake}\n", ["r.yaml:6:8: stages.fit must have 'uses'", "r.yaml:6:9: unknown key 'use' in stages.fit"]),
        (E + "  fit: {uses: train.fake, with: 3}\n", ["r.yaml:6:33: stages.fit.with must be a mapping (got 3)"]),
        (E + "  fit: {uses: train.fake, repeat: 0}\n", ["r.yaml:6:35: stages.fit.repeat must be at least 1 (got 0)"]),
        (E + "  fit: {uses: train.fake, repeat: two}\n", ["r.yaml:6:35: stages.fit.repeat must be a whole number (got 'two')"]),
        (E + "  fit: {uses: train.fake, feed: last}\n", ["r.yaml:6:33: stages.fit.feed must be 'previous' or 'original' (got 'last')"]),
        (E + "  fit: {uses: train.fake, needs: [a]}\n", ["r.yaml:6:34: stages.fit.needs must be text (got a list)"]),
        (BASE + "variants: {a: {seeds: [1]}}\n", ["r.yaml:7:16: variants.a cannot override 'seeds'"]),
        (BASE + "variants: {a: {dta: {}}}\n", ["r.yaml:7:16: unknown key 'dta' in variants.a"]),
        (BASE + "variants: {a: 3}\n", ["r.yaml:7:15: variants.a must be a mapping (got 3)"]),
        (BASE + "variants: [a]\n", ["r.yaml:7:11: variants must be a mapping (got a list)"]),
        (BASE + "profiles: {q: {name: x}}\n", ["r.yaml:7:16: profiles.q cannot override 'name'"]),
        (BASE + "profiles: {q: {stags: {}}}\n", ["r.yaml:7:16: unknown key 'stags' in profiles.q"]),
        (BASE + "evaluate: eval.fake\n", ["r.yaml:7:11: evaluate must be a list (got 'eval.fake')"]),
        (BASE + "evaluate: [3]\n", ["r.yaml:7:12: evaluate.0 must be a mapping (got 3)"]),
        (BASE + "plugins: mine.py\n", ["r.yaml:7:10: plugins must be a list (got 'mine.py')"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_envelope(problems: Problems, text: str, expected: list[str]):
    assert told(problems(text)) == expected


@pytest.mark.parametrize("name", ["a b", "../up", ".hidden", "a/b", "", "x" * 101, "é"])
def test_names_must_be_safe_for_files(problems: Problems, name: str):
    quoted = f'"{name}"'
    assert "r.yaml:2:7: name is no name for a file" in told(problems(BASE.replace("demo", quoted)))[0]
    assert told(problems(E + f"  {quoted}: {{uses: train.fake}}\n"))[0].startswith(
        f"r.yaml:6:3: 'stages.{name}' is no name for a file" if name else "r.yaml:6:3: 'stages' is no name"
    )
    assert "no name for a file" in told(problems(BASE + f"variants: {{{quoted}: }}\n"))[0]


@pytest.mark.parametrize("name", ["init", "previous", "a.safetensors"])
def test_names_of_other_models_are_taken(problems: Problems, name: str):
    assert told(problems(E + f"  {name}: {{uses: train.fake}}\n"))[0].startswith(
        f"r.yaml:6:3: 'stages.{name}' is taken"
    )


def test_a_stage_must_not_be_named_like_a_rung(problems: Problems):
    text = BASE.replace("train.fake}", "train.fake, repeat: 3}") + "  fit-02: {uses: train.fake}\n"
    assert told(problems(text)) == ["r.yaml:7:3: 'fit-02' is the name of a rung of 'fit'"]


# Mistakes in plugins and their options


def test_the_expected_style_of_a_problem(parse: Parse):
    text = BASE + "\n\n  shrink: {uses: prune.structured, needs: fit, with: {amount: 1.5}}\n"
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert str(caught.value) == (
        "r.yaml:9:63: stages.shrink.with.amount must be less than 1 (got 1.5)\n"
        "    9 |   shrink: {uses: prune.structured, needs: fit, with: {amount: 1.5}}\n"
        "      |                                                               ^\n"
        "      help: fraction of channels to remove\n"
        "1 problem, nothing was run"
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("block", "expected", "hint"),
    [
        ("{uses: train.fak}", "6:15: stages.fit.uses: no trainer or compressor is called 'train.fak'", "did you mean 'train.fake'?"),
        ("{uses: eval.fake}", "6:15: stages.fit.uses: 'eval.fake' is a evaluator, not a trainer or compressor", None),
        ("{uses: train.fake, with: {epoch: 3}}", "6:34: unknown key 'epoch' in stages.fit.with", "did you mean 'epochs'?"),
        ("{uses: train.fake, with: {epochs: 3.0}}", "6:42: stages.fit.with.epochs must be a whole number (got 3.0)", "passes over the training set"),
        ("{uses: train.fake, with: {epochs: '3'}}", "6:42: stages.fit.with.epochs must be a whole number (got '3')", "passes over the training set"),
        ("{uses: train.fake, with: {optimizer: {lr: -1}}}", "6:50: stages.fit.with.optimizer.lr must be greater than 0 (got -1)", "learning rate"),
        ("{uses: train.fake, with: {optimizer: {l: 1}}}", "6:46: unknown key 'l' in stages.fit.with.optimizer", "did you mean 'lr'?"),
        ("{uses: train.fake, with: {optimizer: {name: adam, momentum: 1}}}", "6:45: stages.fit.with.optimizer: momentum belongs to sgd, not to adam", "the optimizer"),
        ("{uses: train.fake, with: {clip: .inf}}", "6:40: stages.fit.with.clip must be a finite number (got Infinity)", "largest gradient norm"),
        ("{uses: prune.structured}", "6:8: stages.fit.with must have 'amount'", "fraction of channels to remove"),
        ("{uses: prune.structured, with: {}}", "6:39: stages.fit.with must have 'amount'", "fraction of channels to remove"),
        ("{uses: prune.structured, with: {amount: 0.5, skip: [a, 3]}}", "6:63: stages.fit.with.skip.1 must be text (got 3)", "layers to leave alone"),
        ("{uses: prune.structured, with: {amount: 0.5, rate: [3]}}", "6:59: stages.fit.with.rate must be a whole number or text (got a list)", "a number or a name"),
        ("{uses: prune.structured, with: {amount: 0.5, rewind: fits}}", "6:61: stages.fit.with.rewind names no stage: 'fits'", "did you mean 'fit'?"),
        ("{uses: distill.fake, with: {teachers: [init, fits]}}", "6:53: stages.fit.with.teachers.1 names no stage: 'fits'", "did you mean 'fit'?"),
        ("{uses: distill.fake, with: {teachers: [no.safetensors]}}", "6:47: stages.fit.with.teachers.0: there is no file no.safetensors", None),
        ("{uses: train.fake, needs: fitt}", "6:34: stages.fit.needs names no stage: 'fitt'", "known: init"),
        ("{uses: train.fake, needs: fit}", "6:34: stages need each other in a circle: fit -> fit", "the rung before is called `previous`"),
        ("{uses: prune.structured, with: {amount: 0.5, rewind: fit}}", "6:61: stages need each other in a circle: fit -> fit", "the rung before is called `previous`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_stage(problems: Problems, block: str, expected: str, hint: str | None):
    (problem,) = problems(E + f"  fit: {block}\n")
    assert told([problem]) == [f"r.yaml:{expected}"]
    if hint:
        assert problem.hint == hint


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ("{with.amount: [0.5, 2]}", "6:57: stages.p.with.amount must be less than 1 (got 2)"),
        ("{with.amonut: [0.5]}", "6:52: unknown key 'amonut' in stages.p.with"),
        ("{with.amount: [0.5, 0.50]}", "6:57: stages.p.each gives two members called 'amount=0.5'"),
        (
            "{with.amount: []}",
            "6:51: stages.p.each.with.amount must have at least 1 item (got an empty list)",
        ),
        ("{with.amount: 0.5}", "6:51: stages.p.each.with.amount must be a list (got 0.5)"),
        ("{amount: [0.5]}", "6:38: stages.p.each: 'amount' is no option"),
        ("[0.5]", "6:37: stages.p.each must be a mapping (got a list)"),
        ("{with.rewind: [q]}", "6:52: stages.p.with.rewind names no stage: 'q'"),
    ],
)
def test_a_mistake_in_each(problems: Problems, each: str, expected: str):
    text = f"  p: {{uses: prune.structured, each: {each}, with: {{amount: 0.5}}}}\n"
    assert f"r.yaml:{expected}" in told(problems(E + text))


def test_each_is_bounded(problems: Problems):
    values = "[" + ", ".join(str(i / 1000) for i in range(1, 40)) + "]"
    text = f"  p: {{uses: prune.structured, each: {{with.amount: {values}, with.skip: {values}}}}}\n"
    assert "stages.p.each gives 1,521 members: at most 1,000" in told(problems(E + text))[0]


def test_a_circle_is_told_in_the_order_it_goes(problems: Problems):
    text = E + "  a: {uses: train.fake, needs: init}\n  b: {uses: train.fake, needs: d}\n"
    text += (
        "  c: {uses: distill.fake, needs: a, with: {teachers: [a, b]}}\n  d: {uses: train.fake, needs: c}\n"
    )
    assert told(problems(text)) == ["r.yaml:7:32: stages need each other in a circle: b -> d -> c -> b"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{}", "4:8: model must have either 'uses' or 'from'"),
        ("{uses: model.fake, from: x.safetensors}", "4:8: model must have either 'uses' or 'from'"),
        ("{from: x.safetensors}", "4:15: model.from: there is no file x.safetensors"),
        ("{from: r.yaml}", "4:15: model.from must be a .safetensors file (got 'r.yaml')"),
        ("{from: x.safetensors, with: {a: 1}}", "4:23: model.with goes with 'uses', not with 'from'"),
        ("{uses: model.fake, weights: x.safetensors}", "4:29: model.weights: there is no file x.safetensors"),
        (
            "{uses: model.fake, with: {hidden: [a]}}",
            "4:36: model.with.hidden.0 must be a whole number (got 'a')",
        ),
        ("{uses: data.fake}", "4:15: model.uses: 'data.fake' is a dataset, not a model"),
    ],
)
def test_a_mistake_in_the_model(problems: Problems, model: str, expected: str):
    assert f"r.yaml:{expected}" in told(problems(BASE.replace("{uses: model.fake}", model)))


def test_the_same_evaluator_twice(problems: Problems):
    text = BASE + "evaluate: [eval.fake, {uses: eval.fake, with: {batch_size: 1}}]\n"
    assert told(problems(text)) == [
        "r.yaml:7:23: evaluate.1: eval.fake stands here twice with the same options"
    ]


def test_a_fault_of_a_plugins_own_check_is_no_traceback(problems: Problems):
    (problem,) = problems(BASE + "report: [report.faulty]\n")
    assert "report.0.with: its options cannot be checked: KeyError: 'a bug of the plugin'" in problem.message


# All at once, each once


def test_all_mistakes_at_once_from_the_top_down(problems: Problems):
    text = BASE.replace("demo", "a b").replace("data.fake", "data.fak").replace("train.fake", "train.fak")
    text += "  cut: {uses: prune.structured, with: {amount: 2}, repeat: 0}\nbogus: 1\nbogus: 2\nreport: [x]\n"
    assert [line.split(": ")[0] for line in told(problems(text))] == [
        f"r.yaml:{place}" for place in ("2:7", "3:14", "6:15", "7:48", "7:60", "8:1", "9:1", "10:10")
    ]


def test_a_mistake_all_variants_share_is_told_once_and_others_name_theirs(problems: Problems):
    text = BASE.replace("train.fake}", "train.fake, with: {epochs: 0}}")
    text += "variants:\n  a: {}\n  b: {data: {with: {limit: 0}}}\n"
    assert told(problems(text)) == [
        "r.yaml:6:38: stages.fit.with.epochs must be at least 1 (got 0)",
        "r.yaml:9:29: data.with.limit must be at least 1 (got 0) (variant b)",
    ]


def test_the_place_of_an_overridden_value_is_where_it_was_written(problems: Problems):
    text = BASE + "profiles:\n  q: {stages: {fit: {with: {epochs: 0}}}}\n"
    assert told(problems(text, profile="q")) == [
        "r.yaml:8:37: stages.fit.with.epochs must be at least 1 (got 0)"
    ]
    assert told(problems(BASE, settings=["stages.fit.with.epochs=x"])) == [
        "--set stages.fit.with.epochs=x: stages.fit.with.epochs must be a whole number (got 'x')"
    ]


def test_an_unknown_profile_lists_the_known_ones(problems: Problems):
    (problem,) = problems(BASE + "profiles: {quick: , slow: }\n", profile="fast")
    assert (
        str(problem) == "r.yaml: no profile is called 'fast'\n      help: this recipe's profiles: quick, slow"
    )


@pytest.mark.parametrize("key", ["version", "plugins", "profiles", "bogus"])
def test_settings_cannot_change_everything(problems: Problems, key: str):
    assert told(problems(BASE, settings=[f"{key}=1"])) == [f"--set {key}=1: --set cannot change '{key}'"]


def test_a_setting_for_no_variants_stage(problems: Problems):
    (problem,) = problems(BASE + "variants: {a: , b: }\n", settings=["stages.fti.repeat=2"])
    assert problem.hint == "did you mean 'fit'?"


# Files and trust

MINE = """\
from compressit.hookspecs import hookimpl
from compressit.kinds import Trainer
class Mine(Trainer):
    "Mine."
    name = "train.mine"
@hookimpl
def compressit_trainers():
    return [Mine]
"""


def with_plugin(tmp_path: Path, code: str = MINE) -> Path:
    (tmp_path / "mine.py").write_text(code)
    path = tmp_path / "r.yaml"
    path.write_text(BASE.replace("train.fake", "train.mine") + "plugins: [./mine.py]\n")
    return path


def fresh_host() -> Host:
    host = Host(entry_points=False)
    host.load_file(Path(__file__).with_name("fakes.py"))
    return host


def test_a_trusted_plugin_file_is_loaded_and_recorded(tmp_path: Path):
    path = with_plugin(tmp_path)
    asked: list[LocalPlugin] = []
    recipe = load_recipe(path, fresh_host(), trust=lambda plugin: asked.append(plugin) or True)
    assert recipe.plugins == (LocalPlugin(tmp_path / "mine.py", file_digest(tmp_path / "mine.py")),)
    assert asked == list(recipe.plugins)
    assert recipe.variants[0].stages[0].use.uses == "train.mine"


def test_an_untrusted_plugin_file_never_runs(tmp_path: Path):
    path = with_plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + MINE)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, fresh_host())
    (problem,) = caught.value.problems  # not also: no trainer is called 'train.mine'
    assert str(problem.where) == f"{path}:7:11"
    assert problem.hint == "read the file, then pass --trust"
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RecipeError, match="not trusted"):
        Recipe.load(path, host=fresh_host())


@pytest.mark.parametrize(
    ("code", "message"),
    [("x = = 1\n", "SyntaxError"), ("import nowhere\n", "ModuleNotFoundError"), (MINE.replace("mine", "fake"), "two plugins")],
)  # fmt: skip
def test_a_broken_plugin_file_is_a_problem_with_its_place(tmp_path: Path, code: str, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(with_plugin(tmp_path, code), fresh_host(), trust=lambda _: True)
    assert str(caught.value.problems[0].where).endswith("r.yaml:7:11")


def test_a_missing_plugin_file(problems: Problems):
    assert told(problems(BASE + "plugins: [./gone.py]\n")) == ["r.yaml:7:11: there is no file ./gone.py"]


@pytest.mark.parametrize("content", [b"", b"- a\n", b"\x00\x01\x02", b"\xff\xfe", b"a: [", None])
def test_a_file_that_is_no_recipe_names_itself(host: Host, tmp_path: Path, content: bytes | None):
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, host)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("1 problem, nothing was run")


def test_checking_a_recipe_imports_no_torch(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(BASE.replace("fake", "none"))
    code = (
        "import sys; from compressit.plugins import Host; from compressit.recipe.model import Recipe\n"
        "from compressit.recipe.schema import json_schema; host = Host(entry_points=False); json_schema(host)\n"
        f"try: Recipe.load({str(path)!r}, host=host)\n"
        "except Exception as error: assert 'no dataset is called' in str(error), error\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Nothing but a Recipe or a CompressitError

WORDS = st.sampled_from(
    "version name data model stages evaluate report seeds compute plugins variants profiles uses with needs repeat "
    "feed each from weights init previous original fit cut q data.fake model.fake train.fake prune.structured "
    "distill.fake eval.fake report.fake amount epochs teachers rewind optimizer hidden with.amount . x.safetensors".split()
)  # fmt: skip
LEAVES = WORDS | st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
BLOCK = st.fixed_dictionaries({}, optional={key: TREES for key in (
    "version", "name", "data", "model", "stages", "evaluate", "report", "seeds", "compute", "plugins", "variants",
    "profiles")})  # fmt: skip
GOOD = {
    "version": 1,
    "name": "x",
    "data": {"uses": "data.fake"},
    "model": {"uses": "model.fake"},
    "stages": {"fit": {"uses": "train.fake"}, "cut": {"uses": "prune.structured", "with": {"amount": 0.5}}},
    "profiles": {"q": {}},
}


def survives(host: Host, text: str, **options: object) -> None:
    try:
        assert isinstance(parse_recipe(text, "r.yaml", host, **options), Recipe)  # type: ignore[arg-type]
    except CompressitError as error:
        assert str(error)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(block=BLOCK, path=st.lists(WORDS, min_size=1, max_size=4), value=TREES)
def test_any_tree_is_a_recipe_or_a_recipe_error(host: Host, block: dict, path: list[str], value: object):
    import json

    setting = ".".join(path) + "=" + json.dumps(value)
    survives(host, json.dumps(GOOD | block), settings=[setting])
    survives(host, json.dumps({**GOOD, "profiles": {"q": block}}), profile="q")
    survives(host, json.dumps({**GOOD, "variants": {"a": block, "b": None}}))


@settings(deadline=None)
@given(
    text=st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,. \n\t\\ux01~<", max_size=40), setting=st.text()
)
def test_any_text_is_a_recipe_or_a_recipe_error(host: Host, text: str, setting: str):
    survives(host, text)
    survives(host, BASE + text, settings=[setting, f"name={text}"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary())
def test_any_bytes_are_a_recipe_or_a_recipe_error(host: Host, tmp_path: Path, content: bytes):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        load_recipe(path, host)
