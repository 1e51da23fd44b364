"""Every mistake in a recipe is told with its place, the value and what to do; all of them at once."""

from __future__ import annotations

import pytest

from compressit.datasets.specs import TensorSpec
from compressit.errors import RecipeError
from compressit.host.plugins import Host

from .samples import BASE, UNTIL_STAGES, Parse, Problems, told

# Mistakes in the envelope


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", "1:10: version must be 1 (got 2)"),
        ("version: 1", "version: '1'", "1:10: version must be 1 (got '1')"),
        ("version: 1\n", "", "1:1: the recipe must have 'version'"),
        ("name: demo\n", "", "1:1: the recipe must have 'name'"),
        ("data: {uses: tiny.data}\n", "", "1:1: the recipe must have 'data'"),
        ("{uses: tiny.data}", "{}", "3:7: data must have 'uses'"),
        ("{uses: tiny.data}", "tiny.data", "3:7: data must be a mapping (got 'tiny.data')"),
        ("{uses: tiny.data}", "", "3:1: data must be a mapping (got null)"),
        ("{uses: tiny.data}", "{uses: 3}", "3:14: data.uses must be text (got 3)"),
        ("  fit: {uses: tiny.train}\n", "", "5:1: stages must be a mapping (got null)"),
        ("\n  fit: {uses: tiny.train}\n", " {}\n", "1:1: the recipe does nothing: it has no stages"),
        ("  fit: {uses: tiny.train}\n", "  - fit\n", "6:3: stages must be a mapping (got a list)"),
        ("{uses: tiny.train}", "tiny.train", "6:8: stages.fit must be a mapping (got 'tiny.train')"),
        ("{uses: tiny.train}", "{uses: tiny.train, with: 3}", "6:33: stages.fit.with must be a mapping (got 3)"),
        ("{uses: tiny.train}", "{uses: tiny.train, repeat: 0}", "6:35: stages.fit.repeat must be at least 1 (got 0)"),
        ("{uses: tiny.train}", "{uses: tiny.train, repeat: two}", "6:35: stages.fit.repeat must be a whole number"),
        ("{uses: tiny.train}", "{uses: tiny.train, feed: last}", "6:33: stages.fit.feed must be 'previous' or 'orig"),
        ("{uses: tiny.train}", "{uses: tiny.train, needs: [a]}", "6:34: stages.fit.needs must be text (got a list)"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_envelope(problems: Problems, old: str, new: str, expected: str):
    (line,) = told(problems(BASE.replace(old, new)))
    assert line.startswith(f"r.yaml:{expected}")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("sedes: [1]", "7:1: unknown key 'sedes'"),
        ("seeds: [1, 2, 1]", "7:8: seeds must differ from each other"),
        ("seeds: []", "7:8: seeds must have at least 1 item (got an empty list)"),
        ("seeds: [0, -1]", "7:12: seeds.1 must be at least 0 (got -1)"),
        ("seeds: [0, 1.5]", "7:12: seeds.1 must be a whole number (got 1.5)"),
        ("seeds: [0, true]", "7:12: seeds.1 must be a whole number (got true)"),
        ("seeds: 3", "7:8: seeds must be a list (got 3)"),
        ("compute: {threads: 0}", "7:20: compute.threads must be at least 1 or 'auto' (got 0)"),
        ("compute: {device: gpu}", "7:19: compute.device must be 'auto', 'cpu' or 'cuda' (got 'gpu')"),
        ("compute: {compile: yes}", "7:20: compute.compile must be true or false (got 'yes')"),
        ("compute: {treads: 1}", "7:11: unknown key 'treads' in compute"),
        ("variants: {a: {seeds: [1]}}", "7:16: variants.a cannot override 'seeds'"),
        ("variants: {a: {dta: {}}}", "7:16: unknown key 'dta' in variants.a"),
        ("variants: {a: 3}", "7:15: variants.a must be a mapping (got 3)"),
        ("variants: [a]", "7:11: variants must be a mapping (got a list)"),
        ("profiles: {q: {name: x}}", "7:16: profiles.q cannot override 'name'"),
        ("profiles: {q: {stags: {}}}", "7:16: unknown key 'stags' in profiles.q"),
        ("evaluate: tiny.odd", "7:11: evaluate must be a list (got 'tiny.odd')"),
        ("evaluate: [3]", "7:12: evaluate.0 must be a mapping (got 3)"),
        ("plugins: mine.py", "7:10: plugins must be a list (got 'mine.py')"),
        ("evaluate: [{uses: tiny.odd, with: {fault: options}}]",
         "7:35: evaluate.0.with: checking the options fails: KeyError: 'a bug of the plugin'"),
        ("evaluate: [tiny.odd, {uses: tiny.odd, with: {fault: nan}}]", "7:22: evaluate.1: tiny.odd is listed"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_rest(problems: Problems, more: str, expected: str):
    (line,) = told(problems(f"{BASE}{more}\n"))
    assert line.startswith(f"r.yaml:{expected}")


@pytest.mark.parametrize("name", ["a b", "../up", ".hidden", "a/b", "", "x" * 101, "é"])
def test_names_must_be_safe_for_files(problems: Problems, name: str):
    for text, place in (
        (BASE.replace("demo", f'"{name}"'), "2:7: name"),
        (UNTIL_STAGES + f'  "{name}": {{uses: tiny.train}}\n', f"6:3: 'stages{'.' if name else ''}{name}'"),
        (BASE + f'variants: {{"{name}": }}\n', f"7:12: 'variants{'.' if name else ''}{name}'"),
    ):
        assert told(problems(text))[0].startswith(f"r.yaml:{place} cannot be a file name")


@pytest.mark.parametrize("name", ["init", "previous", "a.safetensors"])
def test_names_of_other_models_are_taken(problems: Problems, name: str):
    (line, *_) = told(problems(UNTIL_STAGES + f"  {name}: {{uses: tiny.train}}\n"))
    assert line.startswith(f"r.yaml:6:3: 'stages.{name}' is reserved")


def test_a_stage_must_not_be_named_like_a_round(problems: Problems):
    text = BASE.replace("tiny.train}", "tiny.train, repeat: 3}") + "  fit-02: {uses: tiny.train}\n"
    assert told(problems(text)) == ["r.yaml:7:3: 'fit-02' is already the name of a round of 'fit'"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "scale: {mean: [0.5, 0.5], std: [0.2, 0.2]}",
            "39: data.with.scale has 2 channels, and the inputs (1, 2, 3)",
        ),
        ("scale: {mean: [0.5], std: [0.2, 0.2]}", "data.with.scale.std has 2 numbers, and `mean` has 1"),
        ("scale: {std: [0.5]}", "data.with.scale must have 'mean'"),
        ("augment: [flip, {crop: 0}]", "data.with.augment.1.crop must be at least 1 (got 0)"),
        ("scale: imagenet", "39: data.with.scale has 3 channels, and the inputs (1, 2, 3) have 1"),
        ("scale: unity", "data.with.scale must be"),
        (
            "augment: [{crop: 2}]",
            "41: data.with.augment moves images of 2 x 3 pixels by up to 2: out of sight",
        ),
        ("augment: [flop]", "data.with.augment.0 must be"),
        ("augment: [flip], pixels: gaussian", "41: data.with.augment changes images, and `pixels: gaussian`"),
        ("pixels: shuffled, augment: [flip]", "59: data.with.augment changes images, and `pixels: shuffled`"),
    ],
)
def test_a_mistake_in_what_the_inputs_are_made_of(problems: Problems, options: str, expected: str):
    (line,) = told(problems(BASE.replace("tiny.data}", f"tiny.data, with: {{{options}}}}}")))
    assert expected in line


# Mistakes in plugins and their options


def test_the_expected_style_of_a_problem(parse: Parse):
    text = BASE + "\n\n  shrink: {uses: tiny.prune, needs: fit, with: {sparsity: 1.5}}\n"
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert str(caught.value) == (
        "r.yaml:9:59: stages.shrink.with.sparsity must be less than 1 (got 1.5)\n"
        "    9 |   shrink: {uses: tiny.prune, needs: fit, with: {sparsity: 1.5}}\n"
        "      |                                                           ^\n"
        "      help: fraction of the weights set to zero\n"
        "1 problem, nothing was run"
    )
    assert caught.value.exit_code == 2


FIT = "tiny.train, with: "
CUT = "tiny.prune, with: {sparsity: 0.5, "


@pytest.mark.parametrize(
    ("uses", "expected", "hint"),
    [
        ("tiny.trai", "15: stages.fit.uses: no trainer or compressor is called 'tiny.trai'", "mean 'tiny.train'"),
        ("tiny.odd", "15: stages.fit.uses: 'tiny.odd' is an evaluator, not a trainer or compressor", ""),
        (FIT + "{epoch: 3}", "34: unknown key 'epoch' in stages.fit.with", "did you mean 'epochs'?"),
        (FIT + "{epochs: 3.0}", "42: stages.fit.with.epochs must be a whole number (got 3.0)", "passes over the"),
        (FIT + "{epochs: '3'}", "42: stages.fit.with.epochs must be a whole number (got '3')", "passes over the"),
        (FIT + "{optimizer: {lr: -1}}", "50: stages.fit.with.optimizer.lr must be greater than 0 (got -1)", "learn"),
        (FIT + "{optimizer: {l: 1}}", "46: unknown key 'l' in stages.fit.with.optimizer", "did you mean 'lr'?"),
        (FIT + "{momentum: 0.9}", "34: unknown key 'momentum' in stages.fit.with", "'optimizer.momentum'? It belongs"),
        (FIT + "{schedule: {name: step}}",
         "44: stages.fit.with.schedule: the schedule `step` needs milestones", "learning-rate schedule"),
        (FIT + "{clip: .inf}", "40: stages.fit.with.clip must be a finite number (got Infinity)", "gradient norm"),
        ("tiny.cut", "8: stages.fit.with must have 'units'", "hidden units kept"),
        ("tiny.cut, with: {}", "31: stages.fit.with must have 'units'", "hidden units kept"),
        (CUT + "skip: [a, 3]}", "59: stages.fit.with.skip.1 must be text (got 3)", "parameters to leave alone"),
        (CUT + "only: [3]}", "55: stages.fit.with.only must be a whole number or text (got a list)", "number or name"),
        (CUT + "rewind: fits}", "57: stages.fit.with.rewind names no stage: 'fits'", "did you mean 'fit' or 'init'?"),
        (CUT + "rewind: fit}", "57: stages need each other in a circle: fit -> fit", "is called `previous`"),
        ("tiny.shrink, with: {others: [init, fits]}", "50: stages.fit.with.others.1 names no stage: 'fits'", ""),
        ("tiny.shrink, with: {others: [no.safetensors]}", "44: stages.fit.with.others.0: there is no file", ""),
        ("tiny.train, needs: fitt", "34: stages.fit.needs names no stage: 'fitt'", "did you mean 'init'?"),
        ("tiny.train, needs: fit", "34: stages need each other in a circle: fit -> fit", "is called `previous`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_stage(problems: Problems, uses: str, expected: str, hint: str):
    (problem,) = problems(UNTIL_STAGES + f"  fit: {{uses: {uses}}}\n")
    assert told([problem])[0].startswith(f"r.yaml:6:{expected}")
    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("sweep: {with.sparsity: [0.5, 2]}", "54: stages.p.with.sparsity must be less than 1 (got 2)"),
        ("sweep: {with.sparsty: [0.5]}, with: {sparsity: 0.5}", "48: unknown key 'sparsty' in stages.p.with"),
        ("sweep: {with.sparsity: [0.5, 0.50]}", "54: stages.p.sweep gives two members called 'sparsity=0.5'"),
        ("sweep: {with.sparsity: []}", "48: stages.p.sweep.with.sparsity must have at least 1 item (got an empty"),
        ("sweep: {with.sparsity: 0.5}", "48: stages.p.sweep.with.sparsity must be a list (got 0.5)"),
        ("sweep: {sparsity: [0.5]}", "33: stages.p.sweep: 'sparsity' is not an option"),
        ("sweep: [0.5]", "32: stages.p.sweep must be a mapping (got a list)"),
        ("sweep: {with.rewind: [q]}, with: {sparsity: 0.5}", "47: stages.p.with.rewind names no stage: 'q'"),
        ("with: {sparsity: 0.3}, sweep: {with.sparsity: [0.5]}", "42: stages.p.with.sparsity has no effect: `sweep`"),
        ("with: {only: null}, sweep: {with.sparsity: [0.5], with.only: [1]}", "38: stages.p.with.only has no effect"),
        ("with: 5, sweep: {with.sparsity: [0.5]}", "31: stages.p.with has no effect: `sweep` varies with.sparsity"),
        ("with: {sparsity: 0.5, skip: [a]}, sweep: {with.skip.x: [1]}", "53: stages.p.with.skip has no effect"),
        ("sweep: {with.sparsity: [0.5], with.sparsity.x: [1]}", "55: stages.p.sweep: 'with.sparsity' and 'with.spars"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sweep(problems: Problems, block: str, expected: str):
    found = told(problems(UNTIL_STAGES + f"  p: {{uses: tiny.prune, {block}}}\n"))
    assert any(line.startswith(f"r.yaml:6:{expected}") for line in found)


def test_a_sweep_and_a_setting_of_the_same_option(parse: Parse, problems: Problems):
    text = UNTIL_STAGES + "  p: {uses: tiny.cut, sweep: {with.units: [5, 9]}}\n"
    (line,) = told(problems(text, settings=["stages.p.with.units=7"]))
    assert line.startswith("--set stages.p.with.units=7: stages.p.with.units has no effect")
    text = text.replace("sweep: {with.units: [5, 9]}", "with: {units: 3}")
    settings = ["stages.p.with.units=null", "stages.p.sweep.with.units=[5, 9]"]
    (stage,) = parse(text, settings=settings).variants[0].stages
    assert [use.config["units"] for _, use in stage.members] == [5, 9]


def test_a_setting_that_deletes_nothing_is_a_mistake(parse: Parse, problems: Problems):
    for setting in ("stages.fit.with.epocs=null", "compute.threads=null", "seeds=null"):
        assert told(problems(BASE, settings=[setting])) == [
            f"--set {setting}: there is no {setting.partition('=')[0]} to delete"
        ]
    text = BASE + "variants: {a: {}, b: {stages: {fit: {with: {epochs: 3}}}}}\n"
    found = parse(text, settings=["stages.fit.with.epochs=null"])  # one variant has it
    assert [variant.stages[0].use.config["epochs"] for variant in found.variants] == [4, 4]


def test_a_setting_that_would_make_twins_the_same_is_a_mistake(parse: Parse, problems: Problems):
    twins = BASE + "variants: {real: {}, fake: {data: {with: {labels: random}}}}\n"
    for setting in ("data.uses=data.other", "data={uses: data.other}"):
        dropped = "drops the options that variant 'fake' gives to data: labels"
        assert f"--set {setting}: {dropped}" in told(problems(twins, settings=[setting]))
    real, fake = parse(twins, settings=["data.uses=tiny.data"]).variants  # no other
    assert (real.data.config["labels"], fake.data.config["labels"]) == ("given", "random")


def test_a_sweep_is_bounded(problems: Problems):
    values = "[" + ", ".join(str(i / 1000) for i in range(1, 40)) + "]"
    text = f"  p: {{uses: tiny.prune, sweep: {{with.sparsity: {values}, with.skip: {values}}}}}\n"
    assert "stages.p.sweep gives 1,521 members, at most 1,000" in told(problems(UNTIL_STAGES + text))[0]


def test_a_circle_is_told_in_the_order_it_goes(problems: Problems):
    text = UNTIL_STAGES + "  a: {uses: tiny.train, needs: init}\n  b: {uses: tiny.train, needs: d}\n"
    text += "  c: {uses: tiny.shrink, needs: a, with: {others: [a, b]}}\n  d: {uses: tiny.train}\n"
    assert told(problems(text)) == ["r.yaml:7:32: stages need each other in a circle: b -> d -> c -> b"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{}", "4:8: model must have either 'uses' or 'from'"),
        ("{uses: tiny.mlp, from: x.safetensors}", "4:8: model must have either 'uses' or 'from'"),
        ("{from: x.safetensors}", "4:15: model.from: there is no file x.safetensors"),
        ("{from: r.yaml}", "4:15: model.from must be a .safetensors file (got 'r.yaml')"),
        ("{from: x.safetensors, with: {a: 1}}", "4:30: model.with works only with 'uses', not with 'from'"),
        ("{uses: tiny.mlp, weights: x.safetensors}", "4:34: model.weights: there is no file x.safetensors"),
        (
            "{uses: tiny.mlp, with: {hidden: [a]}}",
            "4:41: model.with.hidden.0 must be a whole number (got 'a')",
        ),
        ("{uses: tiny.data}", "4:15: model.uses: 'tiny.data' is a dataset, not a model"),
    ],
)
def test_a_mistake_in_the_model(problems: Problems, model: str, expected: str):
    assert f"r.yaml:{expected}" in told(problems(BASE.replace("{uses: tiny.mlp}", model)))


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("inputs", TensorSpec((3, 4000, 4000)), "tiny.data has inputs (3, 4000, 4000)"),
        ("class_names", ("one",), "tiny.data has 3 classes but 1 class names"),
        (
            "train_size",
            property(lambda self: 1 // 0),
            "`train_size` of tiny.data fails: ZeroDivisionError",
        ),
    ],
)
def test_data_with_which_no_result_could_be_made(
    problems: Problems, host: Host, monkeypatch: pytest.MonkeyPatch, attribute: str, value: object, expected: str
):  # fmt: skip
    monkeypatch.setattr(host.find("tiny.data").plugin, attribute, value)
    (line,) = told(problems(BASE))
    assert line.startswith(f"r.yaml:3:14: data.uses: {expected}")


# All at once, each once


def test_all_mistakes_at_once_from_the_top_down(problems: Problems):
    text = BASE.replace("demo", "a b").replace("tiny.data", "tiny.dat").replace("tiny.train", "tiny.trai")
    text += "  cut: {uses: tiny.prune, with: {sparsity: 2}, repeat: 0}\n"
    text += "bogus: 1\nbogus: 2\nreport: [x]\n"
    assert [line.split(": ")[0] for line in told(problems(text))] == [
        f"r.yaml:{place}" for place in ("2:7", "3:14", "6:15", "7:44", "7:56", "8:1", "9:1", "10:10")
    ]
    assert told(problems(UNTIL_STAGES + "  fit: {use: tiny.train}\n")) == [
        "r.yaml:6:8: stages.fit must have 'uses'",
        "r.yaml:6:9: unknown key 'use' in stages.fit",
    ]


def test_a_mistake_all_variants_share_is_told_once_and_others_name_theirs(problems: Problems):
    text = BASE.replace("tiny.train}", "tiny.train, with: {epochs: 0}}")
    text += "variants:\n  a: {}\n  b: {data: {with: {limit: 0}}}\n"
    assert told(problems(text)) == [
        "r.yaml:6:42: stages.fit.with.epochs must be at least 1 (got 0)",
        "r.yaml:9:28: data.with.limit must be at least 1 (got 0) (variant b)",
    ]


def test_the_place_of_an_overridden_value_is_where_it_was_written(problems: Problems):
    text = BASE + "profiles:\n  q: {stages: {fit: {with: {epochs: 0}}}}\n"
    (line,) = told(problems(text, profile="q"))
    assert line == "r.yaml:8:37: stages.fit.with.epochs must be at least 1 (got 0)"
    (line,) = told(problems(BASE, settings=["stages.fit.with.epochs=x"]))
    assert line == "--set stages.fit.with.epochs=x: stages.fit.with.epochs must be a whole number (got 'x')"


def test_what_is_not_there_is_told_with_what_is(problems: Problems):
    (problem,) = problems(BASE + "profiles: {quick: , slow: }\n", profile="fast")
    assert told([problem]) == ["r.yaml: no profile is called 'fast'"]
    assert problem.hint == "this recipe's profiles: quick, slow"
    (problem,) = problems(BASE + "variants: {a: , b: }\n", settings=["stages.fti.repeat=2"])
    assert problem.hint == "did you mean 'fit'?"


@pytest.mark.parametrize("key", ["version", "plugins", "profiles", "bogus"])
def test_settings_cannot_change_everything(problems: Problems, key: str):
    assert told(problems(BASE, settings=[f"{key}=1"])) == [f"--set {key}=1: --set cannot change '{key}'"]
