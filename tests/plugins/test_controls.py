"""Controls: which ones a recipe's strategies get, with what options, and what they share. With the built-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compressit.errors import RecipeError
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe, Stage, Variant

TEXT = """\
version: 1
name: demo
data: {uses: data.synthetic, with: {train: 100, test: 50}}
model: {uses: model.mlp, with: {hidden: [16]}}
evaluate: [eval.accuracy]
stages: {train: {uses: train.supervised, with: {epochs: 4, optimizer: {name: adam, lr: 0.002}}}}
variants:
  sparse:
    stages:
      prune: {uses: prune.magnitude, needs: train, with: {sparsity: 0.8}}
      recover: {uses: train.supervised, with: {epochs: 3, batch_size: 32}}
  taylor:
    stages:
      prune: {uses: prune.structured, needs: train, with: {importance: taylor}}
      recover: {uses: train.distill, with: {epochs: 3, teacher: train, batch_size: 16}}
"""
COMPARE = "compare: {}\n"
MORE = """\
  noise:
    stages:
      student: {uses: shrink.noise, needs: train, with: {epochs: 3, images: 100, teacher: train}}
"""


def recipe_of(text: str, *settings: str, folder: Path | None = None) -> Recipe:
    path = folder / "r.yaml" if folder else None
    return parse_recipe(text, "r.yaml", installed(), None, settings, path=path)


def plan_of(text: str, *settings: str) -> Plan:
    return make_plan(recipe_of(text, *settings), installed())


def variant(recipe: Recipe, name: str) -> Variant:
    return next(found for found in recipe.variants if found.name == name)


def stage(recipe: Recipe, of: str, name: str) -> Stage:
    return next(found for found in variant(recipe, of).stages if found.name == name)


def uses(recipe: Recipe, name: str) -> list[tuple[str, str, str]]:
    return [(found.name, found.use.uses, found.needs) for found in variant(recipe, name).stages]


def test_every_strategy_gets_the_controls_that_it_can_have() -> None:
    recipe = recipe_of(TEXT + MORE + COMPARE)
    assert recipe.compare is not None
    roles = recipe.compare.strategies
    assert {name: (role.control, role.of) for name, role in roles.items() if role.control} == {
        "longer": ("longer", ()),  # one for all
        "random-sparse": ("random", ("sparse",)),
        "random-taylor": ("random", ("taylor",)),
        "magnitude": ("magnitude", ("taylor",)),  # sparse is that itself; noise chooses nothing
        **{f"scratch-{name}": ("scratch", (name,)) for name in ("sparse", "taylor", "noise")},
        **{f"thin-{name}": ("thin", (name,)) for name in ("sparse", "taylor", "noise")},
    }
    assert [found.name for found in recipe.variants] == [*roles]


def test_what_the_controls_are() -> None:
    recipe = recipe_of(TEXT + COMPARE)
    first = [("train", "train.supervised", "init")]
    assert uses(recipe, "longer") == [*first, ("longer", "train.supervised", "train")]
    pruned = [*first, ("prune", "prune.structured", "train"), ("recover", "train.distill", "prune")]
    assert uses(recipe, "random-taylor") == uses(recipe, "magnitude") == pruned
    assert stage(recipe, "random-taylor", "prune").use.config["importance"] == "random"
    assert stage(recipe, "random-sparse", "prune").use.config["score"] == "random"
    assert uses(recipe, "scratch-taylor") == [*pruned, ("scratch", "train.scratch", "recover")]
    narrow = [*pruned, ("thin", "shrink.thin", "recover"), ("scratch", "train.scratch", "thin")]
    assert uses(recipe, "thin-taylor") == narrow
    assert stage(recipe, "thin-taylor", "thin").use.models == ("train",)


def test_all_train_for_as_many_epochs_with_options_of_their_own_kind() -> None:
    recipe = recipe_of(TEXT + COMPARE)
    assert recipe.compare is not None
    assert {role.epochs for role in recipe.compare.strategies.values()} == {4 + 3}
    recovery = stage(recipe, "longer", "longer").use.config
    assert (recovery["epochs"], recovery["batch_size"], recovery["optimizer"]["name"]) == (3, 32, "sgd")
    fresh = stage(recipe, "scratch-taylor", "scratch").use.config
    assert (fresh["epochs"], fresh["batch_size"], fresh["optimizer"]["lr"]) == (7, 128, 0.002)


def test_the_longest_recovery_counts_for_the_original_trained_on() -> None:
    recipe = recipe_of(TEXT + COMPARE, "stages.recover.with.epochs=3")
    text = TEXT.replace("{epochs: 3, teacher", "{epochs: 8, teacher") + COMPARE
    assert stage(recipe_of(text), "longer", "longer").use.config["epochs"] == 8
    assert stage(recipe, "longer", "longer").use.config["epochs"] == 3
    assert any("sparse 3, taylor 8" in doubt for doubt in recipe_of(text).doubts())


def test_a_schedule_and_steps_are_stretched() -> None:
    step = "schedule: {name: step, milestones: [1, 2]}, epochs: 3, batch_size"
    recipe = recipe_of(
        TEXT.replace("epochs: 3, batch_size", step).replace("{epochs: 3, teacher", "{epochs: 9, teacher")
        + COMPARE
    )
    longer = stage(recipe, "longer", "longer").use.config
    assert (longer["epochs"], longer["schedule"]["milestones"]) == (9, [3, 6])
    steps = TEXT.replace("epochs: 4,", "steps: 4,")  # 4 steps of the only batch of 100: 4 epochs
    scratch = stage(recipe_of(steps + COMPARE), "scratch-taylor", "scratch").use.config
    assert (scratch["steps"], scratch["epochs"]) == (7, 10)  # the default stands beside


def test_jobs_that_strategies_share_are_one_and_a_new_strategy_adds_only_its_own() -> None:
    plan, more = plan_of(TEXT + COMPARE), plan_of(TEXT + MORE + COMPARE)
    assert plan.jobs.keys() < more.jobs.keys()
    added = [job for key, job in more.jobs.items() if key not in plan.jobs and job.kind == "stage"]
    assert sorted(job.label for job in added) == [
        "noise/seed0/student", "scratch-noise/seed0/scratch", "thin-noise/seed0/scratch", "thin-noise/seed0/thin",
    ]  # fmt: skip
    assert sum(job.stage == "train" and job.kind == "stage" for job in more.jobs.values()) == 1


def test_switching_controls_off_removes_only_their_jobs() -> None:
    plan, without = plan_of(TEXT + COMPARE), plan_of(TEXT + COMPARE, "compare.controls=false")
    assert without.jobs == plan_of(TEXT).jobs
    assert without.jobs.keys() < plan.jobs.keys()
    only = plan_of(TEXT + "compare: {controls: [random, longer]}\n")
    assert {point.variant for point in only.points} == {
        "sparse",
        "taylor",
        "longer",
        "random-sparse",
        "random-taylor",
    }


def test_what_the_fresh_narrower_net_can_do_is_not_measured() -> None:
    plan = plan_of(TEXT + COMPARE)
    (thin,) = (point for point in plan.points if (point.variant, point.stage) == ("thin-taylor", "thin"))
    assert not thin.metrics
    assert all(point.metrics for point in plan.points if point.stage == "scratch")


def test_sweeps_flow_through_and_rounds_end_in_the_last() -> None:
    swept = TEXT.replace("with: {sparsity: 0.8}", "sweep: {with.sparsity: [0.5, 0.8]}") + COMPARE
    plan = plan_of(swept)
    for control, last in (
        ("scratch-sparse", "scratch"),
        ("thin-sparse", "scratch"),
        ("random-sparse", "recover"),
    ):
        found = [p.member for p in plan.points if p.variant == control and p.stage == last]
        assert found == ["sparsity=0.5", "sparsity=0.8"], control
    one, other = (
        [p.member for p in plan.points if p.variant == v and p.stage == "thin"]
        for v in ("thin-sparse", "thin-taylor")
    )
    assert (one, other) == (["sparsity=0.5", "sparsity=0.8"], [""])
    rounds = (
        TEXT.replace("recover: {uses: train.supervised", "recover: {repeat: 2, uses: train.supervised")
        + COMPARE
    )
    recipe = recipe_of(rounds)
    assert recipe.compare is not None
    assert recipe.compare.strategies["sparse"].epochs == 4 + 2 * 3
    given = {
        job.inputs["previous"]
        for job in make_plan(recipe, installed()).jobs.values()
        if job.label == "scratch-sparse/seed0/scratch"
    }
    assert given == {
        p.model for p in make_plan(recipe, installed()).points if p.path == "sparse/seed0/recover-02"
    }


def test_equal_controls_appear_once_and_serve_both() -> None:
    text = TEXT.replace(
        "prune.magnitude, needs: train, with: {sparsity: 0.8}",
        "prune.structured, needs: train, with: {importance: fpgm}",
    )
    text = text.replace(
        "train.distill, with: {epochs: 3, teacher: train, batch_size: 16}",
        "train.supervised, with: {epochs: 3, batch_size: 32}",
    )
    recipe = recipe_of(text + COMPARE)
    assert recipe.compare is not None
    assert (
        recipe.compare.strategies["random"].of
        == recipe.compare.strategies["magnitude"].of
        == ("sparse", "taylor")
    )


def test_a_strategy_that_is_the_control_itself_needs_no_other() -> None:
    text = (
        TEXT.replace("importance: taylor", "importance: random")
        + """\
  scratch:
    stages:
      prune: {uses: prune.structured, needs: train, with: {importance: taylor}}
      recover: {uses: train.scratch, with: {epochs: 3}}
  on: {stages: {longer: {uses: train.supervised, needs: train, with: {epochs: 3, batch_size: 32}}}}
compare: {}
"""
    )
    recipe = recipe_of(text)
    assert recipe.compare is not None
    controls = {name for name, role in recipe.compare.strategies.items() if role.control}
    assert "longer" not in controls  # that is `on`
    assert not any("on" in name for name in controls)  # it has no shape of its own
    assert "random-taylor" not in controls  # that is `taylor`
    assert not {"scratch-scratch"} & controls


def given(tmp_path: Path) -> str:
    import compressit

    net = compressit.data("data.synthetic", train=8, test=8)
    from compressit_plugins.models.mlp import Mlp, MlpConfig

    model = Mlp(MlpConfig(hidden=(16,))).build(net.contract.inputs, net.classes)
    compressit.save(
        model, tmp_path / "mine.safetensors", uses="model.mlp", hidden=[16],
        inputs=net.contract.inputs, outputs=net.classes, contract=net.contract,
    )  # fmt: skip
    text = TEXT.replace("model: {uses: model.mlp, with: {hidden: [16]}}", "model: {from: mine.safetensors}")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("stages:"))
    return (
        text.replace("needs: train", "needs: init").replace("teacher: train", "teacher: init")
        + "\n"
        + COMPARE
    )


def test_a_given_model_is_the_original(tmp_path: Path) -> None:
    recipe = recipe_of(given(tmp_path), folder=tmp_path)
    assert recipe.compare is not None
    assert {role.epochs for role in recipe.compare.strategies.values()} == {3}  # the recovery
    assert uses(recipe, "longer") == [("longer", "train.supervised", "init")]
    assert stage(recipe, "thin-taylor", "thin").use.models == ("init",)
    assert stage(recipe, "scratch-taylor", "scratch").use.config["epochs"] == 3
    assert make_plan(recipe, installed()).points


def test_without_any_training_there_is_nothing_to_train_as_long() -> None:
    bare = [line for line in TEXT.splitlines() if "recover" not in line]
    recipe = recipe_of("\n".join(bare) + "\n" + COMPARE)
    assert recipe.compare is not None
    assert "longer" not in recipe.compare.strategies
    assert recipe.compare.strategies["scratch-taylor"].epochs == 4
    asked = recipe_of("\n".join(bare) + "\ncompare: {controls: [longer]}\n")
    assert any("`longer`" in doubt for doubt in asked.doubts())


def test_patterns_of_evaluators_hold_for_what_takes_the_place(tmp_path: Path) -> None:
    text = TEXT.replace("[eval.accuracy]", "[{uses: eval.accuracy, stages: [recover]}]")
    plan = make_plan(recipe_of(text + COMPARE), installed())
    measured = {(point.variant, point.stage) for point in plan.points if point.metrics}
    for wanted in (("longer", "longer"), ("scratch-sparse", "scratch"), ("thin-taylor", "scratch")):
        assert wanted in measured
    assert ("taylor", "train") not in measured


def test_the_name_of_a_control_is_taken() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(TEXT + "  longer: {stages: {prune: {uses: prune.magnitude, needs: train}}}\n" + COMPARE)
    (problem,) = caught.value.problems
    assert (problem.where.line, problem.where.column) == (16, 3)  # type: ignore[union-attr]
    assert "'longer' is the name of a control" in problem.message


def test_too_many_jobs_are_refused() -> None:
    values = ", ".join(f"0.{n:04}" for n in range(1, 900))
    swept = TEXT.replace("with: {sparsity: 0.8}", f"sweep: {{with.sparsity: [{values}]}}")
    seeds = f"seeds: [{', '.join(map(str, range(12)))}]\n"
    recipe_of(swept + seeds)
    with pytest.raises(RecipeError, match="with its controls the recipe may make"):
        recipe_of(swept + seeds + COMPARE)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    from compressit_plugins.prune.magnitude import Magnitude

    return lambda made: monkeypatch.setattr(Magnitude, "alternatives", made)


def test_a_plugin_that_fails_is_named(made: Callable[[Callable[..., Any]], None]) -> None:
    made(lambda self: 1 / 0)
    with pytest.raises(RecipeError, match=r"`alternatives` of prune\.magnitude fails: ZeroDivisionError"):
        recipe_of(TEXT + COMPARE)
