"""Every mistake in a recipe is told with its place, the value and what to do; all of them at once."""

from __future__ import annotations

import pytest

from compressit.errors import RecipeError
from compressit.host.plugins import Host

from .samples import BASE, UNTIL_STAGES, Parse, Problems, told

# Mistakes in the envelope


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE.replace("version: 1", "version: 2"), ["r.yaml:1:10: version must be 1 (got 2)"]),
        (BASE.replace("version: 1", "version: '1'"), ["r.yaml:1:10: version must be 1 (got '1')"]),
        (BASE.replace("version: 1\n", ""), ["r.yaml:1:1: the recipe must have 'version'"]),
        (BASE.replace("name: demo\n", ""), ["r.yaml:1:1: the recipe must have 'name'"]),
        (BASE.replace("data: {uses: data.fake}\n", ""), ["r.yaml:1:1: the recipe must have 'data'"]),
        (BASE.replace("{uses: data.fake}", "{}"), ["r.yaml:3:7: data must have 'uses'"]),
        (
            BASE.replace("{uses: data.fake}", "data.fake"),
            ["r.yaml:3:7: data must be a mapping (got 'data.fake')"],
        ),
        (BASE.replace("{uses: data.fake}", ""), ["r.yaml:3:1: data must be a mapping (got null)"]),
        (BASE.replace("{uses: data.fake}", "{uses: 3}"), ["r.yaml:3:14: data.uses must be text (got 3)"]),
        (BASE + "sedes: [1]\n", ["r.yaml:7:1: unknown key 'sedes'"]),
        (BASE + "seeds: [1, 2, 1]\n", ["r.yaml:7:8: seeds must differ from each other"]),
        (BASE + "seeds: []\n", ["r.yaml:7:8: seeds must have at least 1 item (got an empty list)"]),
        (BASE + "seeds: [0, -1]\n", ["r.yaml:7:12: seeds.1 must be at least 0 (got -1)"]),
        (BASE + "seeds: [0, 1.5]\n", ["r.yaml:7:12: seeds.1 must be a whole number (got 1.5)"]),
        (BASE + "seeds: 3\n", ["r.yaml:7:8: seeds must be a list (got 3)"]),
        (
            BASE + "compute: {threads: 0}\n",
            ["r.yaml:7:20: compute.threads must be at least 1 or 'auto' (got 0)"],
        ),
        (
            BASE + "compute: {device: gpu}\n",
            ["r.yaml:7:19: compute.device must be 'auto', 'cpu' or 'cuda' (got 'gpu')"],
        ),
        (
            BASE + "compute: {compile: yes}\n",
            ["r.yaml:7:20: compute.compile must be true or false (got 'yes')"],
        ),
        (BASE + "compute: {treads: 1}\n", ["r.yaml:7:11: unknown key 'treads' in compute"]),
        (UNTIL_STAGES, ["r.yaml:5:1: stages must be a mapping (got null)"]),
        (UNTIL_STAGES[:-1] + " {}", ["r.yaml:5:9: stages must have at least 1 item (got an empty mapping)"]),
        (UNTIL_STAGES + "  - fit\n", ["r.yaml:6:3: stages must be a mapping (got a list)"]),
        (
            UNTIL_STAGES + "  fit: train.fake\n",
            ["r.yaml:6:8: stages.fit must be a mapping (got 'train.fake')"],
        ),
        (
            UNTIL_STAGES + "  fit: {use: train.fake}\n",
            ["r.yaml:6:8: stages.fit must have 'uses'", "r.yaml:6:9: unknown key 'use' in stages.fit"],
        ),
        (
            UNTIL_STAGES + "  fit: {uses: train.fake, with: 3}\n",
            ["r.yaml:6:33: stages.fit.with must be a mapping (got 3)"],
        ),
        (
            UNTIL_STAGES + "  fit: {uses: train.fake, repeat: 0}\n",
            ["r.yaml:6:35: stages.fit.repeat must be at least 1 (got 0)"],
        ),
        (
            UNTIL_STAGES + "  fit: {uses: train.fake, repeat: two}\n",
            ["r.yaml:6:35: stages.fit.repeat must be a whole number (got 'two')"],
        ),
        (
            UNTIL_STAGES + "  fit: {uses: train.fake, feed: last}\n",
            ["r.yaml:6:33: stages.fit.feed must be 'previous' or 'original' (got 'last')"],
        ),
        (
            UNTIL_STAGES + "  fit: {uses: train.fake, needs: [a]}\n",
            ["r.yaml:6:34: stages.fit.needs must be text (got a list)"],
        ),
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
)
def test_a_mistake_in_the_envelope(problems: Problems, text: str, expected: list[str]):
    assert told(problems(text)) == expected


@pytest.mark.parametrize("name", ["a b", "../up", ".hidden", "a/b", "", "x" * 101, "é"])
def test_names_must_be_safe_for_files(problems: Problems, name: str):
    quoted = f'"{name}"'
    assert "r.yaml:2:7: name is no name for a file" in told(problems(BASE.replace("demo", quoted)))[0]
    assert told(problems(UNTIL_STAGES + f"  {quoted}: {{uses: train.fake}}\n"))[0].startswith(
        f"r.yaml:6:3: 'stages.{name}' is no name for a file" if name else "r.yaml:6:3: 'stages' is no name"
    )
    assert "no name for a file" in told(problems(BASE + f"variants: {{{quoted}: }}\n"))[0]


@pytest.mark.parametrize("name", ["init", "previous", "a.safetensors"])
def test_names_of_other_models_are_taken(problems: Problems, name: str):
    assert told(problems(UNTIL_STAGES + f"  {name}: {{uses: train.fake}}\n"))[0].startswith(
        f"r.yaml:6:3: 'stages.{name}' is taken"
    )


def test_a_stage_must_not_be_named_like_a_rung(problems: Problems):
    text = BASE.replace("train.fake}", "train.fake, repeat: 3}") + "  fit-02: {uses: train.fake}\n"
    assert told(problems(text)) == ["r.yaml:7:3: 'fit-02' is the name of a round of 'fit'"]


# Mistakes in plugins and their options


def test_the_expected_style_of_a_problem(parse: Parse):
    text = BASE + "\n\n  shrink: {uses: prune.structured, needs: fit, with: {sparsity: 1.5}}\n"
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert str(caught.value) == (
        "r.yaml:9:65: stages.shrink.with.sparsity must be less than 1 (got 1.5)\n"
        "    9 |   shrink: {uses: prune.structured, needs: fit, with: {sparsity: 1.5}}\n"
        "      |                                                                 ^\n"
        "      help: fraction of channels to remove\n"
        "1 problem, nothing was run"
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("block", "expected", "hint"),
    [
        (
            "{uses: train.fak}",
            "6:15: stages.fit.uses: no trainer or compressor is called 'train.fak'",
            "did you mean 'train.fake'?",
        ),
        (
            "{uses: eval.fake}",
            "6:15: stages.fit.uses: 'eval.fake' is an evaluator, not a trainer or compressor",
            None,
        ),
        (
            "{uses: train.fake, with: {epoch: 3}}",
            "6:34: unknown key 'epoch' in stages.fit.with",
            "did you mean 'epochs'?",
        ),
        (
            "{uses: train.fake, with: {epochs: 3.0}}",
            "6:42: stages.fit.with.epochs must be a whole number (got 3.0)",
            "passes over the training set",
        ),
        (
            "{uses: train.fake, with: {epochs: '3'}}",
            "6:42: stages.fit.with.epochs must be a whole number (got '3')",
            "passes over the training set",
        ),
        (
            "{uses: train.fake, with: {optimizer: {lr: -1}}}",
            "6:50: stages.fit.with.optimizer.lr must be greater than 0 (got -1)",
            "learning rate",
        ),
        (
            "{uses: train.fake, with: {optimizer: {l: 1}}}",
            "6:46: unknown key 'l' in stages.fit.with.optimizer",
            "did you mean 'lr'?",
        ),
        (
            "{uses: train.fake, with: {momentum: 0.9}}",
            "6:34: unknown key 'momentum' in stages.fit.with",
            "did you mean 'optimizer.momentum'? It belongs into a block: `optimizer: {momentum: …}`",
        ),
        (
            "{uses: train.fake, with: {optimizer: {name: adam, momentum: 1}}}",
            "6:45: stages.fit.with.optimizer: momentum belongs to sgd, not to adam",
            "the optimizer",
        ),
        (
            "{uses: train.fake, with: {clip: .inf}}",
            "6:40: stages.fit.with.clip must be a finite number (got Infinity)",
            "largest gradient norm",
        ),
        (
            "{uses: prune.structured}",
            "6:8: stages.fit.with must have 'sparsity'",
            "fraction of channels to remove",
        ),
        (
            "{uses: prune.structured, with: {}}",
            "6:39: stages.fit.with must have 'sparsity'",
            "fraction of channels to remove",
        ),
        (
            "{uses: prune.structured, with: {sparsity: 0.5, skip: [a, 3]}}",
            "6:65: stages.fit.with.skip.1 must be text (got 3)",
            "layers to leave alone",
        ),
        (
            "{uses: prune.structured, with: {sparsity: 0.5, rate: [3]}}",
            "6:61: stages.fit.with.rate must be a whole number or text (got a list)",
            "a number or a name",
        ),
        (
            "{uses: prune.structured, with: {sparsity: 0.5, rewind: fits}}",
            "6:63: stages.fit.with.rewind names no stage: 'fits'",
            "did you mean 'fit' or 'init'?",
        ),
        (
            "{uses: distill.fake, with: {teachers: [init, fits]}}",
            "6:53: stages.fit.with.teachers.1 names no stage: 'fits'",
            "did you mean 'fit' or 'init'?",
        ),
        (
            "{uses: distill.fake, with: {teachers: [no.safetensors]}}",
            "6:47: stages.fit.with.teachers.0: there is no file no.safetensors",
            None,
        ),
        (
            "{uses: train.fake, needs: fitt}",
            "6:34: stages.fit.needs names no stage: 'fitt'",
            "did you mean 'init'?",
        ),
        (
            "{uses: train.fake, needs: fit}",
            "6:34: stages need each other in a circle: fit -> fit",
            "the round before is called `previous`",
        ),
        (
            "{uses: prune.structured, with: {sparsity: 0.5, rewind: fit}}",
            "6:63: stages need each other in a circle: fit -> fit",
            "the round before is called `previous`",
        ),
    ],
)
def test_a_mistake_in_a_stage(problems: Problems, block: str, expected: str, hint: str | None):
    (problem,) = problems(UNTIL_STAGES + f"  fit: {block}\n")
    assert told([problem]) == [f"r.yaml:{expected}"]
    if hint:
        assert problem.hint == hint


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("{with.sparsity: [0.5, 2]}", "6:60: stages.p.with.sparsity must be less than 1 (got 2)"),
        ("{with.sparsty: [0.5]}", "6:54: unknown key 'sparsty' in stages.p.with"),
        ("{with.sparsity: [0.5, 0.50]}", "6:60: stages.p.sweep gives two members called 'sparsity=0.5'"),
        (
            "{with.sparsity: []}",
            "6:54: stages.p.sweep.with.sparsity must have at least 1 item (got an empty list)",
        ),
        ("{with.sparsity: 0.5}", "6:54: stages.p.sweep.with.sparsity must be a list (got 0.5)"),
        ("{sparsity: [0.5]}", "6:39: stages.p.sweep: 'sparsity' is no option"),
        ("[0.5]", "6:38: stages.p.sweep must be a mapping (got a list)"),
        ("{with.rewind: [q]}", "6:53: stages.p.with.rewind names no stage: 'q'"),
    ],
)
def test_a_mistake_in_a_sweep(problems: Problems, sweep: str, expected: str):
    given = "" if "with.sparsity" in sweep else ", with: {sparsity: 0.5}"
    text = f"  p: {{uses: prune.structured, sweep: {sweep}{given}}}\n"
    assert f"r.yaml:{expected}" in told(problems(UNTIL_STAGES + text))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            "with: {sparsity: 0.3}, sweep: {with.sparsity: [0.5]}",
            "6:48: stages.p.with.sparsity has no effect: `sweep` varies",
        ),
        (
            "with: {rate: null}, sweep: {with.sparsity: [0.5], with.rate: [1]}",
            "6:44: stages.p.with.rate has no effect",
        ),
        (
            "with: 5, sweep: {with.sparsity: [0.5]}",
            "6:37: stages.p.with has no effect: `sweep` varies with.sparsity",
        ),
        (
            "with: {sparsity: 0.5, skip: [a]}, sweep: {with.skip.x: [1]}",
            "6:59: stages.p.with.skip has no effect",
        ),
        (
            "sweep: {with.sparsity: [0.5], with.sparsity.x: [1]}",
            "6:61: stages.p.sweep: 'with.sparsity' and 'with.sparsity.x'",
        ),
    ],
)
def test_a_sweep_overrides_nothing_silently(problems: Problems, block: str, expected: str):
    assert any(
        line.startswith(f"r.yaml:{expected}")
        for line in told(problems(UNTIL_STAGES + f"  p: {{uses: prune.structured, {block}}}\n"))
    )


def test_a_sweep_and_a_setting_of_the_same_option_are_told_where_the_setting_was_written(problems: Problems):
    text = UNTIL_STAGES + "  p: {uses: prune.structured, sweep: {with.sparsity: [0.5, 0.9]}}\n"
    (problem,) = problems(text, settings=["stages.p.with.sparsity=0.7"])
    assert told([problem])[0].startswith(
        "--set stages.p.with.sparsity=0.7: stages.p.with.sparsity has no effect"
    )


def test_a_sweep_takes_the_place_of_what_a_setting_takes_away(parse: Parse):
    text = UNTIL_STAGES + "  p: {uses: prune.structured, with: {sparsity: 0.3}}\n"
    settings = ["stages.p.with.sparsity=null", "stages.p.sweep.with.sparsity=[0.5, 0.9]"]
    assert [
        use.config["sparsity"] for _, use in parse(text, settings=settings).variants[0].stages[0].members
    ] == [
        0.5,
        0.9,
    ]


def test_a_setting_that_deletes_nothing_is_a_mistake(parse: Parse, problems: Problems):
    for setting in ("stages.fit.with.epocs=null", "compute.threads=null", "seeds=null"):
        assert told(problems(BASE, settings=[setting])) == [
            f"--set {setting}: there is no {setting.partition('=')[0]} to delete"
        ]
    text = BASE + "variants: {a: {}, b: {stages: {fit: {with: {epochs: 3}}}}}\n"
    found = parse(text, settings=["stages.fit.with.epochs=null"])  # one variant has it
    assert [variant.stages[0].use.config["epochs"] for variant in found.variants] == [1, 1]


@pytest.mark.parametrize(
    "seeds", ["[-1]", "[0, true]", "[0, 0]", "[1.5]", "['1']", "[9223372036854775808]", "[]", "3"]
)
def test_odd_seeds_are_refused(problems: Problems, seeds: str):
    found = told(problems(BASE + f"seeds: {seeds}\n"))
    assert found
    assert all(line.startswith("r.yaml:7:") for line in found)


def test_a_sweep_is_bounded(problems: Problems):
    values = "[" + ", ".join(str(i / 1000) for i in range(1, 40)) + "]"
    text = f"  p: {{uses: prune.structured, sweep: {{with.sparsity: {values}, with.skip: {values}}}}}\n"
    assert "stages.p.sweep gives 1,521 members: at most 1,000" in told(problems(UNTIL_STAGES + text))[0]


def test_a_circle_is_told_in_the_order_it_goes(problems: Problems):
    text = UNTIL_STAGES + "  a: {uses: train.fake, needs: init}\n  b: {uses: train.fake, needs: d}\n"
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
        ("{from: x.safetensors, with: {a: 1}}", "4:30: model.with goes with 'uses', not with 'from'"),
        ("{uses: model.fake, weights: x.safetensors}", "4:36: model.weights: there is no file x.safetensors"),
        (
            "{uses: model.fake, with: {hidden: [a]}}",
            "4:43: model.with.hidden.0 must be a whole number (got 'a')",
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
    text += (
        "  cut: {uses: prune.structured, with: {sparsity: 2}, repeat: 0}\nbogus: 1\nbogus: 2\nreport: [x]\n"
    )
    assert [line.split(": ")[0] for line in told(problems(text))] == [
        f"r.yaml:{place}" for place in ("2:7", "3:14", "6:15", "7:50", "7:62", "8:1", "9:1", "10:10")
    ]


def test_a_mistake_all_variants_share_is_told_once_and_others_name_theirs(problems: Problems):
    text = BASE.replace("train.fake}", "train.fake, with: {epochs: 0}}")
    text += "variants:\n  a: {}\n  b: {data: {with: {limit: 0}}}\n"
    assert told(problems(text)) == [
        "r.yaml:6:42: stages.fit.with.epochs must be at least 1 (got 0)",
        "r.yaml:9:28: data.with.limit must be at least 1 (got 0) (variant b)",
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


def test_inputs_too_large_for_any_checkpoint_are_told_before_anything_is_made(
    problems: Problems, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host.find("data.fake").plugin, "input_shape", (3, 4000, 4000))
    found = told(problems(BASE))
    assert len(found) == 1
    assert found[0].startswith("r.yaml:3:14: data.uses: data.fake has inputs of shape (3, 4000, 4000)")


def test_names_that_do_not_go_with_the_classes_are_told(
    problems: Problems, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host.find("data.fake").plugin, "class_names", ("one",))
    assert "data.fake has 2 classes and 1 names" in told(problems(BASE))[0]
