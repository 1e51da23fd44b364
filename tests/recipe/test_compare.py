"""`compare`: what it is by default, and its mistakes at their places."""

from __future__ import annotations

import pytest

from .samples import Parse, Problems, told

TEXT = """\
version: 1
name: demo
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages: {fit: {uses: tiny.train}}
evaluate: [tiny.accuracy, tiny.size]
variants:
  half: {stages: {cut: {uses: tiny.prune, needs: fit}}}
  most: {stages: {cut: {uses: tiny.prune, needs: fit, with: {sparsity: 0.9}}}}
"""
NONE = "compare: {controls: false}\n"


def test_variants_are_strategies_whose_last_stages_are_compared(parse: Parse) -> None:
    found = parse(TEXT + NONE).compare
    assert found is not None
    assert (found.metric, found.selecting, found.baseline) == ("test_accuracy", None, "original")
    assert {name: role.final for name, role in found.strategies.items()} == {
        "half": ("cut",),
        "most": ("cut",),
    }
    assert parse(TEXT).compare is None


def test_what_results_json_has_of_it(parse: Parse) -> None:
    found = parse(TEXT + "compare: {controls: [], metric: train_accuracy, baseline: half}\n").compare
    assert found is not None
    assert found.to_json() == {
        "metric": "train_accuracy",
        "selecting": None,
        "baseline": "half",
        "budget": {},
        "strategies": {name: {"final": ["cut"], "control": "", "of": []} for name in ("half", "most")},
        "epochs": {"half": 4, "most": 4},  # tiny.train's own
    }


def test_a_stage_that_another_needs_or_learns_from_is_not_compared(parse: Parse) -> None:
    text = TEXT.replace(
        "{cut: {uses: tiny.prune, needs: fit}}",
        "{tutor: {uses: tiny.train, needs: fit}, cut: {uses: tiny.prune, needs: fit}, "
        "small: {uses: tiny.shrink, needs: cut, with: {teacher: tutor}}, sparse: {uses: tiny.prune, needs: fit}}",
    )
    found = parse(text + NONE).compare
    assert found is not None
    assert found.strategies["half"].final == ("small", "sparse")


def test_a_profile_and_a_setting_change_it(parse: Parse) -> None:
    text = TEXT + NONE + "profiles: {other: {compare: {baseline: most}}, none: {compare: null}}\n"
    assert parse(text, "other").compare.baseline == "most"  # type: ignore[union-attr]
    assert parse(text, "none").compare is None
    assert parse(text, settings=["compare.metric=train_accuracy"]).compare.metric == "train_accuracy"  # type: ignore[union-attr]
    assert len(parse(TEXT + "compare: {}\n", settings=["compare.controls=false"]).variants) == 2


@pytest.mark.parametrize(
    ("block", "place", "said"),
    [
        ("compare: {metric: test_acuracy, controls: false}", "10:19", "'test_acuracy' is what no evaluator"),
        ("compare: {baseline: haf, controls: false}", "10:21", "names no variant: 'haf'"),
        ("compare: {controls: [longest]}", "10:22", "compare.controls"),
        ("compare: {budget: {mags: 0.5}, controls: false}", "10:20", "compare.budget.mags is no cost"),
        ("compare: {budget: {parameters: 1.5}, controls: false}", "10:32", "at most 1 (got 1.5)"),
        ("compare: {budget: {parameters: 0}, controls: false}", "10:32", "above 0"),
        ("compare: {budget: {max_drop: -0.1}, controls: false}", "10:30", "compare.budget.max_drop must be"),
        ("compare: {budget: {parameters: half}}", "10:32", "compare.budget.parameters must be"),
        ("compare:", "10:1", "compare must be a mapping"),
        ("compare: {metrics: x}", "10:11", "unknown key 'metrics' in compare"),
        (
            "compare: {}",
            "10:10",
            "compare.controls: a control needs train.scratch",
        ),  # not among these plugins
    ],
)
def test_a_mistake_is_told_at_its_place(problems: Problems, block: str, place: str, said: str) -> None:
    found = told(problems(TEXT + block + "\n"))
    assert any(line.startswith(f"r.yaml:{place}: ") and said in line for line in found), found


def test_a_measure_without_better_and_worse_cannot_be_compared(problems: Problems) -> None:
    (line,) = told(problems(TEXT + "compare: {metric: mean_weight, controls: false}\n"))
    assert "'mean_weight' is neither better nor worse" in line


def test_without_variants_or_scores_there_is_nothing_to_compare(problems: Problems) -> None:
    alone = TEXT.partition("variants:")[0]
    assert any("the recipe has no variants" in line for line in told(problems(alone + NONE)))
    sizes = TEXT.replace("tiny.accuracy, ", "")
    assert any("no evaluator measures a score" in line for line in told(problems(sizes + NONE)))


def test_no_variant_is_called_original(problems: Problems) -> None:
    (line,) = told(problems(TEXT.replace("  half:", "  original:") + NONE))
    assert line.startswith("r.yaml:8:3: 'original' means the dense parent")


def test_all_mistakes_are_told_at_once(problems: Problems) -> None:
    found = told(problems(TEXT + "compare: {metric: x, baseline: y, budget: {z: 1}, controls: false}\n"))
    assert len(found) == 3


def test_different_recoveries_are_a_doubt(parse: Parse) -> None:
    text = TEXT.replace(
        "cut: {uses: tiny.prune, needs: fit, with: {sparsity: 0.9}}",
        "cut: {uses: tiny.prune, needs: fit}, more: {uses: tiny.train, with: {epochs: 2}}",
    )
    assert any("half 0, most 2" in doubt for doubt in parse(text + NONE).doubts())
    assert not any("epochs" in doubt for doubt in parse(TEXT + NONE).doubts())
