"""A search finds the best ratio that is known, by the validation split alone, and can be stopped at any time."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compressit.contract.job import Job
from compressit.errors import CompressitError, StageFailed
from compressit.planning.plan import make_plan
from compressit.recipe.load import load_recipe
from compressit.running.session import run_plan

from .known import KNOWN, Desk

pytestmark = pytest.mark.extra("search")
LEAST = 1 - math.sqrt(0.1)  # the share that loses 0.1


def test_the_smallest_model_that_loses_no_more_is_found(desk: Desk) -> None:
    found = desk.search(desk.recipe(), trials=20, jobs=4)
    assert found.winner is not None
    assert LEAST <= found.winner.cost / 108 < LEAST + 0.06
    for trial in found.trials:
        kept = round(trial.values["stages.cut.with.keep"] * 72) + round(
            trial.values["stages.cut.with.keep"] * 36
        )
        assert (trial.cost, trial.drop) == (kept, pytest.approx((1 - kept / 108) ** 2)), "as counted by hand"
    assert Counter((desk.root / "log").read_text().split())["fill"] == 1, "equal prefixes are made once"


def test_the_recipe_as_written_is_the_first_trial(desk: Desk) -> None:
    found = desk.search(desk.recipe(), trials=1)
    assert [trial.values for trial in found.trials] == [{"stages.cut.with.keep": 0.9}]


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(desk: Desk) -> None:
    values = []
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        desk.folder = folder
        values.append([trial.values for trial in desk.search(desk.recipe(), seed=seed, trials=5).trials])
    assert values[0] == values[1] != values[2]


def test_test_labels_change_no_choice(desk: Desk) -> None:
    right = desk.search(desk.recipe())
    desk.folder = "wrong"
    wrong = desk.search(desk.recipe(text=KNOWN.replace("0.2}", "0.2, wrong_tests: true}")))
    assert (wrong.trials, wrong.winner) == (right.trials, right.winner)
    assert right.tests == {"test_accuracy": (1.0, 1.0)}
    assert wrong.tests == {"test_accuracy": (0.0, 0.0)}, "they are measured in the end"


def test_a_search_that_was_stopped_continues_and_makes_no_trial_twice(desk: Desk) -> None:
    whole = desk.search(desk.recipe())
    log = desk.root / "log"
    made = Counter(log.read_text().split())
    log.unlink()
    desk.root = desk.root / "again"
    desk.root.mkdir()

    def stop(job: Job) -> None:
        if job.label == "trial-004/seed0/cut":
            raise KeyboardInterrupt

    desk.bench.before = stop
    with pytest.raises(KeyboardInterrupt):
        desk.search(desk.recipe())
    desk.bench.before = lambda job: None
    found = desk.search(desk.recipe())
    assert (found.trials, found.winner) == (whole.trials, whole.winner)
    assert Counter(log.read_text().split()) == made
    assert "continuing after 3 trials" in desk.said.getvalue()
    desk.bench.ran.clear()
    assert desk.search(desk.recipe(), trials=8).trials == found.trials
    assert desk.bench.ran == []
    assert desk.search(desk.recipe(), trials=9).trials[:8] == found.trials


def test_the_winners_recipe_runs_as_it_is_and_gives_the_same_model(desk: Desk) -> None:
    found = desk.search(desk.recipe())
    assert found.recipe is not None
    assert found.winner is not None
    desk.bench.ran.clear()
    recipe = load_recipe(found.recipe, trust=True, host=desk.host)
    results, failures = run_plan(
        make_plan(recipe, desk.host), desk.host, folder=desk.root / "elsewhere", store=desk.root / "store"
    )
    assert (failures, desk.bench.ran) == ([], []), "all of it is in the store"
    assert results.rows[-1].metrics["nonzero"] == found.winner.cost
    assert "# Found by a search of known" in found.recipe.read_text()


def test_a_trial_that_fails_is_told_and_the_search_goes_on(desk: Desk) -> None:
    text = KNOWN.replace("known.cut}", "known.cut, with: {refuses: 0.6}}")
    found = desk.search(desk.recipe(text=text), trials=10, jobs=3)
    failed = [trial for trial in found.trials if trial.failed]
    assert {trial.values["stages.cut.with.keep"] < 0.6 for trial in failed} == {True}
    assert all("is too little" in trial.failed for trial in failed)
    assert len(failed) < len(found.trials) == 10
    assert found.winner is not None
    assert f"trial {failed[0].number}: " in desk.said.getvalue()


def test_without_a_winner_the_nearest_is_named(desk: Desk) -> None:
    found = desk.search(desk.recipe(), max_drop=0.001)
    assert (found.winner, found.recipe, found.results) == (None, None, None)
    nearest = min(found.trials, key=lambda trial: trial.drop)
    assert f"trial {nearest.number}" in found.reason
    assert not (desk.root / "out" / "winner.yaml").exists()


def test_orders_of_stages_are_tried(desk: Desk) -> None:
    text = KNOWN.replace(
        "  cut: {uses: known.cut}", "  a: {uses: known.cut, with: {keep: 0.3}}\n  b: {uses: known.cut}"
    )
    found = desk.search(desk.recipe("search: {order: [[a, b]]}\n", text), max_drop=0.6, trials=10, jobs=3)
    assert found.winner is not None
    orders = {trial.values["order of a and b"] for trial in found.trials}
    assert orders == {"a, b", "b, a"}
    for trial in found.trials:  # the last one counts
        last = trial.values["order of a and b"].split(", ")[1]
        keep = trial.values[f"stages.{last}.with.keep"]
        assert trial.cost == round(keep * 72) + round(keep * 36)


def test_strategies_are_chosen_among_and_the_winner_has_only_its_own_stages(desk: Desk) -> None:
    more = (
        "variants:\n"
        "  rough: {stages: {cut: {with: {keep: 0.1}}}}\n"
        "  fine: {stages: {other: {uses: known.cut, needs: fill}}}\n"
    )
    found = desk.search(desk.recipe(more), trials=10, jobs=3)
    assert {trial.strategy for trial in found.trials} == {"rough", "fine/cut", "fine/other"}
    assert found.winner is not None
    assert found.results is not None
    assert len(found.results.rows) == 2, "of the original and of the winner"


def test_layers_have_ratios_of_their_own(desk: Desk) -> None:
    found = desk.search(
        desk.recipe("search: {stages.cut.with.keeps: {per_layer: true}}\n"), trials=11, jobs=5
    )
    names = [f"stages.cut.with.keeps[{layer}]" for layer in ("1.weight", "4.weight")]
    for trial in found.trials[1:]:
        assert [*trial.values] == names
        kept = [round(trial.values[name] * size) for name, size in zip(names, (72, 36), strict=True)]
        assert trial.cost == sum(kept)
    assert found.winner is not None
    assert found.recipe is not None
    assert LEAST <= found.winner.cost / 108 < 0.9


def test_a_sweep_gives_the_values_to_choose_from(desk: Desk) -> None:
    text = KNOWN.replace("known.cut}", "known.cut, sweep: {with.keep: [0.3, 0.6, 0.7, 0.8]}}")
    found = desk.search(desk.recipe(text=text), trials=20)
    assert sorted(trial.values["stages.cut.with.keep"] for trial in found.trials) == [0.3, 0.6, 0.7, 0.8]
    assert found.winner is not None
    assert found.winner.values == {"stages.cut.with.keep": 0.7}
    assert "there is nothing else to try" in desk.said.getvalue()


def test_the_folder_of_another_search_is_left_alone(desk: Desk) -> None:
    desk.search(desk.recipe(), trials=1)
    before = (desk.root / "out" / "search.json").read_bytes()
    with pytest.raises(CompressitError, match="another recipe, goal or seed"):
        desk.search(desk.recipe(), trials=1, seed=1)
    assert (desk.root / "out" / "search.json").read_bytes() == before
    (desk.root / "mine").mkdir()
    (desk.root / "mine" / "thesis.tex").touch()
    desk.folder = "mine"
    with pytest.raises(CompressitError, match=r"thesis\.tex"):
        desk.search(desk.recipe(), trials=1)


def test_nothing_is_searched_if_the_recipe_itself_fails(desk: Desk) -> None:
    text = KNOWN.replace("known.cut}", "known.cut, with: {keep: 0.5, refuses: 0.6}}")
    found = desk.search(desk.recipe(text=text), trials=6)
    assert found.trials[0].failed, "the original is known all the same"
    assert found.winner is not None

    def fail(job: Job) -> None:
        if job.stage == "fill":
            raise RuntimeError("no power")

    desk.folder, desk.bench.before = "other", fail
    with pytest.raises(StageFailed, match="no power"):
        desk.search(desk.recipe(text=KNOWN.replace("name: known", "name: again\nseeds: [5]")), trials=6)


def test_observers_hear_of_every_batch_also_of_a_search_that_stops_before_its_first_trial(desk: Desk) -> None:
    def stop(job: Job) -> None:
        raise KeyboardInterrupt

    recipe = desk.recipe("observe: [tiny.observer]\n")
    desk.bench.before = stop
    with pytest.raises(KeyboardInterrupt):
        desk.search(recipe)
    diary = desk.root / "out" / "diary.txt"
    assert [line["method"] for line in _lines(diary)] == ["run_started", "job_started", "run_ended"]
    diary.unlink()
    desk.bench.before = lambda job: None
    found = desk.search(recipe, trials=3, jobs=2)
    starts = [line for line in _lines(diary) if line["method"] == "run_started"]
    assert [len({path.split("/")[0] for path in start["models"]}) for start in starts] == [1, 2], (
        "first as written"
    )
    assert {trial.number for trial in found.trials} == {0, 1, 2}
    assert _lines(desk.root / "out" / "winner" / "diary.txt")[-1]["complete"] is True


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
