"""What a recipe becomes: defaults, order, references, `sweep`, overrides; files and the plugins it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import PLUGINS, tiny_host

from compressit.contract.fit_options import OptimizerConfig
from compressit.errors import RecipeError
from compressit.host.plugins import Host
from compressit.recipe.load import load_recipe
from compressit.recipe.model import LocalPlugin, Recipe, Stage, Weights

from .samples import BASE, Parse, Problems, told, write_checkpoint, write_weights


def stages(recipe: Recipe, variant: int = 0) -> dict[str, Stage]:
    return {stage.name: stage for stage in recipe.variants[variant].stages}


def test_the_smallest_recipe_has_every_default_written_out(parse: Parse):
    recipe = parse(BASE)
    assert (recipe.name, recipe.seeds, recipe.report, recipe.profile) == ("demo", (0,), (), None)
    (variant,) = recipe.variants
    assert (variant.name, variant.evaluate) == ("base", ())
    assert variant.data.config["scale"] == "unit"
    assert variant.model.use is not None
    assert variant.model.use.config == {"hidden": [12]}
    (stage,) = variant.stages
    assert stage.use.config["optimizer"] == OptimizerConfig().model_dump(mode="json")
    assert (stage.needs, stage.repeat, stage.feed, stage.sweep) == ("init", None, "previous", ())
    assert stage.members == (("", stage.use),)


def test_a_stage_needs_the_one_before_it_and_stages_come_in_an_order_that_runs(parse: Parse):
    recipe = parse(
        BASE + "  late: {uses: tiny.prune, needs: early, with: {sparsity: 0.5}}\n"
        "  early: {uses: tiny.train, needs: fit}\n  last: {uses: tiny.train}\n"
    )
    assert [(s.name, s.needs) for s in recipe.variants[0].stages] == [
        ("fit", "init"),
        ("early", "fit"),
        ("late", "early"),
        ("last", "early"),
    ]


def test_references_are_edges_and_checkpoints_become_absolute_paths(parse: Parse, tmp_path: Path):
    write_checkpoint(tmp_path / "old.safetensors")
    old = str(tmp_path / "old.safetensors")
    recipe = parse(
        BASE + "  d: {uses: tiny.shrink, needs: fit, with: {others: [later, old.safetensors, previous]}}\n"
        "  later: {uses: tiny.prune, needs: fit, with: {sparsity: 0.5, rewind: init}}\n"
    )
    assert [s.name for s in recipe.variants[0].stages] == ["fit", "later", "d"]
    assert stages(recipe)["d"].refs == ("later", old)
    assert stages(recipe)["d"].use.config["others"] == ["later", old, "previous"]
    assert stages(recipe)["later"].refs == ("init",)


def test_each_gives_a_member_for_every_combination(parse: Parse):
    text = "  p: {uses: tiny.prune, sweep: {with.sparsity: [0.5, 0.8], with.rewind: [init, null]}}\n"
    stage = stages(parse(BASE + text))["p"]
    assert [(label, use.config["sparsity"], use.config["rewind"]) for label, use in stage.members] == [
        ("sparsity=0.5,rewind=init", 0.5, "init"),
        ("sparsity=0.5,rewind=null", 0.5, None),
        ("sparsity=0.8,rewind=init", 0.8, "init"),
        ("sparsity=0.8,rewind=null", 0.8, None),
    ]
    assert stage.sweep == (("with.sparsity", (0.5, 0.8)), ("with.rewind", ("init", None)))
    assert stage.use == stage.members[0][1]
    assert stage.refs == ("init",)


def test_each_reaches_nested_options_and_leaves_the_others(parse: Parse):
    text = BASE.replace("tiny.train}", "tiny.train, with: {epochs: 7}, sweep: {with.optimizer.lr: [1, 2]}}")
    members = stages(parse(text))["fit"].members
    assert [(m, u.config["epochs"], u.config["optimizer"]["lr"]) for m, u in members] == [
        ("lr=1", 7, 1.0),
        ("lr=2", 7, 2.0),
    ]


def test_base_then_profile_then_variant_then_settings(parse: Parse):
    text = (
        BASE.replace(
            "tiny.data}",
            "tiny.data, with: {limit: 9, labels: random, validation: 1, seed: 1, label_fraction: 0.1}}",
        )
        + "variants: {a: {data: {with: {seed: 3, label_fraction: 0.3}}}, b: }\n"
        + "profiles: {p: {data: {with: {validation: 2, seed: 2, label_fraction: 0.2}}}}\n"
    )
    one, two = parse(text, profile="p", settings=["data.with.label_fraction=0.4"]).variants
    keys = ("limit", "validation", "seed", "label_fraction")
    assert [one.data.config[k] for k in keys] == [9, 2, 3, 0.4]
    assert [two.data.config[k] for k in keys] == [9, 2, 2, 0.4]
    assert (one.name, two.name) == ("a", "b")


def test_variants_may_add_drop_and_replace_stages(parse: Parse):
    text = BASE + "  cut: {uses: tiny.prune, with: {sparsity: 0.5}}\nvariants:\n"
    text += "  less: {stages: {fit: null}}\n  more: {stages: {tune: {uses: tiny.train}}}\n"
    text += "  other: {stages: {cut: {uses: tiny.train}}, evaluate: [tiny.odd], data: {uses: tiny.letters}}\n"
    less, more, other = parse(text).variants
    assert [(s.name, s.needs) for s in less.stages] == [("cut", "init")]
    assert [(s.name, s.needs) for s in more.stages][1:] == [("cut", "fit"), ("tune", "cut")]
    assert "sparsity" not in other.stages[1].use.config
    assert (other.evaluate[0].uses, other.data.uses) == ("tiny.odd", "tiny.letters")


def test_settings_reach_the_head_the_variants_and_stages_of_one_variant(parse: Parse):
    text = BASE + "variants: {a: {}, b: {stages: {extra: {uses: tiny.train}}}}\n"
    changes = ["seeds=[3, 4]", "name=other", "compute.threads=2", "variants.a.data.with.limit=5"]
    recipe = parse(text, settings=[*changes, "stages.extra.with.epochs=9"])
    assert (recipe.seeds, recipe.name, recipe.compute.threads) == ((3, 4), "other", 2)
    assert [v.data.config["limit"] for v in recipe.variants] == [5, None]
    assert stages(recipe, 1)["extra"].use.config["epochs"] == 9


def test_evaluators_and_reports_are_names_or_blocks(
    parse: Parse, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host.find("tiny.odd").plugin, "metrics", {})  # else each may stand there once
    text = "evaluate: [tiny.odd, {uses: tiny.odd, with: {fault: log}}]\nreport: [tiny.report]\n"
    recipe = parse(BASE + text)
    assert [measure.use.config for measure in recipe.variants[0].evaluate] == [
        {"fault": "nan"},
        {"fault": "log"},
    ]
    assert [use.uses for use in recipe.report] == ["tiny.report"]


def test_a_model_from_a_checkpoint_or_with_weights(parse: Parse, tmp_path: Path):
    write_checkpoint(tmp_path / "w.safetensors")
    (variant,) = parse(BASE.replace("{uses: tiny.mlp}", "{from: w.safetensors}")).variants
    assert (variant.model.use, variant.model.checkpoint) == (None, tmp_path / "w.safetensors")
    write_weights(tmp_path / "w.safetensors")
    (variant,) = parse(BASE.replace("tiny.mlp}", "tiny.mlp, weights: w.safetensors}")).variants
    assert (variant.model.checkpoint, variant.model.weights) == (None, Weights(tmp_path / "w.safetensors"))


def test_anchors_serve_several_stages_and_an_empty_with_is_none(parse: Parse):
    text = BASE.replace("tiny.train}", "tiny.train, with: {optimizer: &o {lr: 3}}}")
    text += "  again: {uses: tiny.train, with: {optimizer: *o}}\n  plain:\n    uses: tiny.train\n    with:\n"
    found = stages(parse(text, settings=["stages.fit.with.optimizer.lr=4"]))
    assert [s.use.config["optimizer"]["lr"] for s in found.values()] == [4.0, 3.0, 0.01]


def test_recipe_load_reads_a_file(host: Host, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(BASE)
    recipe = load_recipe(str(path), settings=["seeds=[1]"], host=host)
    assert (recipe.path, recipe.seeds) == (path, (1,))


# Files and trust


def with_plugin(tmp_path: Path, code: str = "") -> Path:
    """A recipe beside the plugin file that it needs, at whose end there is more code."""
    (tmp_path / "mine.py").write_text(PLUGINS.read_text() + code)
    path = tmp_path / "r.yaml"
    path.write_text(BASE + "plugins: [./mine.py]\n")
    return path


def test_a_trusted_plugin_file_is_loaded_and_recorded(tmp_path: Path):
    path = with_plugin(tmp_path)
    asked: list[LocalPlugin] = []
    recipe = load_recipe(
        path, host=Host(entry_points=False), trust=lambda plugin: asked.append(plugin) or True
    )
    assert recipe.plugins == (LocalPlugin.read(tmp_path / "mine.py"),)
    assert asked == list(recipe.plugins)
    assert recipe.variants[0].stages[0].use.uses == "tiny.train"


def test_an_untrusted_plugin_file_never_runs(tmp_path: Path):
    path = with_plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, host=Host(entry_points=False))
    (problem,) = caught.value.problems  # not also: no trainer is called 'tiny.train'
    assert str(problem.where) == f"{path}:7:11"
    assert problem.hint == "read the file, then pass --trust"
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RecipeError, match="not trusted"):
        load_recipe(path, host=Host(entry_points=False))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = = 1\n", "SyntaxError"),
        ("import nowhere\n", "ModuleNotFoundError"),
        ("", "two plugins"),
    ],
)
def test_a_broken_plugin_file_is_a_problem_with_its_place(tmp_path: Path, code: str, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(with_plugin(tmp_path, code), host=tiny_host(), trust=lambda _: True)
    assert str(caught.value.problems[0].where).endswith("r.yaml:7:11")


def test_a_missing_plugin_file(problems: Problems):
    assert told(problems(BASE + "plugins: [./gone.py]\n")) == ["r.yaml:7:11: there is no file ./gone.py"]


@pytest.mark.parametrize("content", [b"", b"- a\n", b"\x00\x01\x02", b"\xff\xfe", b"a: [", None])
def test_a_file_that_is_no_recipe_names_itself(host: Host, tmp_path: Path, content: bytes | None):
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, host=host)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("1 problem, nothing was run")


def test_checking_a_recipe_imports_no_torch(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(BASE)
    code = (
        "import sys; from pathlib import Path; from compressit.host.plugins import Host\n"
        "from compressit.recipe.load import load_recipe; from compressit.recipe.schema import json_schema\n"
        f"host = Host(entry_points=False); host.load_file(Path({str(PLUGINS)!r})); json_schema(host)\n"
        f"assert load_recipe({str(path)!r}, host=host).name == 'demo'\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
