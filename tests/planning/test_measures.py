"""Which models are measured, and which models an evaluation needs."""

from __future__ import annotations

import pytest
from tiny import BASE, TWINS, plan_of, point

from compressit.planning.points import Plan

LADDER = (
    BASE + "  blog: {uses: tiny.shrink, repeat: 3}\n"
    "  prune: {uses: tiny.prune, needs: train, sweep: {with.sparsity: [0.5, 0.9]}, repeat: 2}\n"
)
EVERY = [
    "train", "blog-01", "blog-02", "blog-03", "prune@sparsity=0.5-01", "prune@sparsity=0.5-02",
    "prune@sparsity=0.9-01", "prune@sparsity=0.9-02",
]  # fmt: skip


def _measured(plan: Plan, name: str = "") -> list[str]:
    """The models that the evaluator called `name` measures."""
    return [p.name for p in plan.points if name in p.metrics.values()]


def _compared(plan: Plan, path: str) -> set[str]:
    """The paths of the models that the evaluations of this model read, besides the model itself."""
    made = {p.model: p.path for p in plan.points}
    measured = point(plan, path)
    jobs = [plan.jobs[key] for key in measured.metrics]
    return {
        made.get(key, plan.jobs[key].kind)
        for job in jobs
        for ref, key in job.inputs.items()
        if ref != "model"
    }


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("[blog-02]", ["blog-02"]),
        ("[blog]", ["blog-01", "blog-02", "blog-03"]),
        ("['blog-0[12]', train]", ["train", "blog-01", "blog-02"]),
        ("['prune@sparsity=0.9']", ["prune@sparsity=0.9-01", "prune@sparsity=0.9-02"]),
        ("['prune@sparsity=0.9-02']", ["prune@sparsity=0.9-02"]),
        ("[prune-01]", ["prune@sparsity=0.5-01", "prune@sparsity=0.9-01"]),
        ("['*']", ["init", *EVERY]),
    ],
)
def test_patterns_say_which_models_are_measured(stages: str, expected: list[str]) -> None:
    plan = plan_of(f"{LADDER}evaluate: [tiny.size, {{uses: tiny.accuracy, stages: {stages}, as: x}}]\n")
    assert _measured(plan, "x") == expected
    assert _measured(plan) == EVERY, "an evaluator without `stages` measures all but fresh weights"


def test_a_fresh_first_model_has_a_row_only_where_asked() -> None:
    assert [p.name for p in plan_of(f"{BASE}evaluate: [tiny.size]\n").points] == ["train"]
    plan = plan_of(f"{BASE}evaluate: [tiny.size, {{uses: tiny.accuracy, stages: [init]}}]\n")
    assert [p.name for p in plan.points] == ["init", "train"]
    assert len(point(plan, "base/seed0/init").metrics) == 1


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("train", "fake/seed1/train"),
        ("shrink", "fake/seed1/shrink-02"),
        ("shrink-01", "fake/seed1/shrink-01"),
        ("train@seed=0", "fake/seed0/train"),
        ("train@variant=real", "real/seed1/train"),
        ("shrink-01@variant=real@seed=0", "real/seed0/shrink-01"),
        ("shrink-01@seed=0@variant=real", "real/seed0/shrink-01"),
        ("previous", "fake/seed1/train"),
        ("init", "init"),
    ],
)
def test_an_evaluation_needs_the_model_that_it_names(other: str, expected: str) -> None:
    text = TWINS.replace(
        "[tiny.accuracy, tiny.size, tiny.fidelity]", f"[{{uses: tiny.gap, with: {{other: {other}}}}}]"
    )
    plan = plan_of(text + "seeds: [0, 1]\n")
    assert _compared(plan, "fake/seed1/prune") == {expected}


def test_jobs_come_after_the_models_that_they_need_also_of_later_variants_and_seeds() -> None:
    gap = "{uses: tiny.gap, with: {other: 'prune@variant=fake@seed=1'}}"
    other = "other: {stages: {prune: {with: {rewind: prune@variant=fake}}}}"
    text = TWINS.replace("[tiny.accuracy,", f"[{gap}, tiny.accuracy,").replace(
        "fake: {data", f"{other}, fake: {{data"
    )
    plan = plan_of(text.replace("teacher: train}", "teacher: train@seed=1}") + "seeds: [0, 1]\n")
    done: set[str] = set()
    for key, job in plan.jobs.items():
        assert done.issuperset(job.inputs.values()), job.label
        done.add(key)
    assert plan.jobs[point(plan, "real/seed0/shrink-01").model].inputs["train@seed=1"] == (
        point(plan, "real/seed1/train").model
    )
    assert plan.jobs[point(plan, "other/seed1/prune").model].inputs["prune@variant=fake"] == (
        point(plan, "fake/seed1/prune").model
    )


def test_the_key_of_an_evaluation_holds_what_it_compares_with_and_not_its_name() -> None:
    def key(item: str) -> str:
        (found,) = point(plan_of(f"{LADDER}evaluate: [{item}]\n"), "base/seed0/blog-01").metrics
        return found

    assert key("{uses: tiny.gap}") == key("{uses: tiny.gap, as: far, stages: ['blog*']}")
    assert key("{uses: tiny.gap}") != key("{uses: tiny.gap, with: {other: blog-02}}")


def test_the_original_is_the_first_trained_model_on_the_way_of_each_variant_and_seed() -> None:
    text = (
        LADDER + "  tune: {uses: tiny.train, needs: prune}\nseeds: [0, 1]\nvariants: {a: {}, b: {}}\n"
        "evaluate: [{uses: tiny.gap, with: {other: original}}]\n"
    )
    plan = plan_of(text.replace("b: {}", "b: {data: {with: {labels: random}}}"))
    for name in ("train", "blog-01", "blog-03", "prune@sparsity=0.5-02", "tune@sparsity=0.9"):
        (evaluation,) = point(plan, f"b/seed1/{name}").metrics
        assert plan.jobs[evaluation].inputs["original"] == point(plan, "b/seed1/train").model
    assert {p.original for p in plan.points} == {
        point(plan, f"{variant}/seed{seed}/train").model for variant in "ab" for seed in (0, 1)
    }


def test_a_stage_can_learn_from_the_original() -> None:
    stages = "  shrink: {uses: tiny.shrink}\n  prune: {uses: tiny.prune, with: {rewind: original}}\n"
    plan = plan_of(BASE + stages)
    job = plan.jobs[point(plan, "base/seed0/prune").model]
    assert job.inputs == {
        "previous": point(plan, "base/seed0/shrink").model, "original": point(plan, "base/seed0/train").model,
    }  # fmt: skip
    assert point(plan, "base/seed0/prune").reference == "original"


def test_what_was_compressed_from_fresh_weights_has_no_original() -> None:
    cut = BASE.replace("  train:", "  cut: {uses: tiny.cut, with: {units: 4}}\n  train:")
    assert [p.original for p in plan_of(cut + "evaluate: [{uses: tiny.size, stages: ['*']}]\n").points] == [
        None
    ] * 3
