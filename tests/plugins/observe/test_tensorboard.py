"""`observe.tensorboard`: what TensorBoard's own reader finds, against the results."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiny import Bench

from compressit import JobEnd, Recipe, RunEnd, RunStart, run
from compressit.contract.job import Job
from compressit.contract.results import Results
from compressit.errors import RecipeError
from compressit_plugins.observe import tensorboard as plugin
from compressit_plugins.observe.tensorboard import TensorBoard, TensorBoardConfig

pytestmark = pytest.mark.extra("tensorboard")

TRAIN = {"uses": "train.supervised", "with": {"epochs": 3, "batch_size": 16}}
RECIPE = {
    "version": 1,
    "name": "board",
    "data": {"uses": "data.synthetic", "with": {"train": 64, "test": 32}},
    "model": {"uses": "model.mlp", "with": {"hidden": [8]}},
    "variants": {
        "one": {},
        "other": {"stages": {"prune": {"uses": "prune.magnitude", "with": {"sparsity": 0.5}}}},
    },
    "stages": {"train": TRAIN},
    "evaluate": ["eval.accuracy", {"uses": "eval.calibration", "as": "cal"}],
    "observe": ["observe.tensorboard"],
}
Points = list[tuple[int, float]]


@dataclass
class Desk:
    """Runs recipes in one store."""

    root: Path
    said: str = ""

    def run(self, folder: str = "run", **changed: object) -> Results:
        screen = io.StringIO()
        recipe = Recipe.of({**RECIPE, **changed})
        try:
            return run(
                recipe, out=self.root / folder, store=self.root / "store", console=Console(file=screen)
            ).results
        finally:
            self.said = screen.getvalue()

    def files(self, folder: str = "run") -> dict[str, bytes]:
        """All event files."""
        root = self.root / folder / "tensorboard"
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def desk(tmp_path: Path, bench: Bench) -> Desk:
    return Desk(tmp_path)


def scalars(folder: Path) -> dict[str, Points]:
    """All points of a TensorBoard run, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def expected(results: Results) -> dict[str, dict[str, Points]]:
    """What stands in the results, by path of the model and tag, in single precision."""
    return {
        f"{row.variant}/seed{row.seed}/{row.name}": {
            **{
                f"curves/{name}": [(int(x), _single(y)) for x, y in points]
                for name, points in row.curves.items()
                if all(float(x).is_integer() for x, _ in points)
            },
            **{f"metrics/{name}": [(row.round or 0, _single(value))] for name, value in row.metrics.items()},
        }
        for row in results.rows
    }


def _single(value: float) -> float:
    return float(np.float32(value))


def check(desk: Desk, results: Results, folder: str = "run") -> None:
    root = desk.root / folder / "tensorboard"
    wanted = expected(results)
    assert {str(file.parent.relative_to(root)) for file in root.rglob("*tfevents*")} == set(wanted)
    for path, tags in wanted.items():
        assert scalars(root / path) == tags


def test_curves_and_metrics_are_those_of_the_results_and_a_second_run_adds_nothing(desk: Desk) -> None:
    results = desk.run()
    assert {row.variant for row in results.rows} == {"one", "other"}, "they share the job that trains"
    assert any(name.startswith("cal_") for name in results.rows[0].metrics)
    check(desk, results)
    files = desk.files()
    desk.run()
    assert "nothing to do" in desk.said
    assert desk.files() == files


def test_a_new_folder_gets_what_the_store_has(desk: Desk, bench: Bench) -> None:
    results = desk.run()
    ran = len(bench.ran)
    desk.run("again")
    assert len(bench.ran) == ran
    check(desk, results, "again")


def test_other_options_replace_the_points_and_do_not_join_them(desk: Desk) -> None:
    desk.run()
    longer = {"uses": "train.supervised", "with": {"epochs": 5, "batch_size": 16}}
    results = desk.run(stages={"train": longer})
    assert len(results.rows[0].curves["accuracy"]) == 5
    check(desk, results)


def test_a_run_that_was_stopped_goes_on_without_doubled_points(desk: Desk, bench: Bench) -> None:
    def before(job: Job) -> None:
        if job.uses == "eval.calibration":
            raise KeyboardInterrupt

    bench.before = before
    with pytest.raises(KeyboardInterrupt):
        desk.run()
    assert desk.files()
    bench.before = lambda job: None
    check(desk, desk.run())


# One job


JOB = Job("a" * 64, "stage", "base/seed0/train", "train.x", {}, 0, {}, {}, {})
CURVES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "loss": ((4.0, 2.5), (8.0, 1.5)), "share": ((0.25, 1.0), (0.5, 2.0)), "bad": ((1.0, float("nan")),),
}  # fmt: skip


def start(folder: Path) -> RunStart:
    from compressit import PlannedModel

    return RunStart(folder, "x", [PlannedModel("base/seed0/train", JOB.key, {})], {JOB.key: JOB}, [JOB.key])


def watching(folder: Path, live: bool = True) -> TensorBoard:
    observer = TensorBoard(TensorBoardConfig(live=live))
    observer.run_started(start(folder))
    observer.job_started(JOB)
    observer.job_progress(JOB, {"epoch": 1.0, "epochs": 9.0, "seconds": 0.1, "loss": 3.0, "accuracy": 0.25})
    observer.job_progress(JOB, {"epoch": 4.0, "loss": 2.0})
    return observer


def test_live_points_can_be_read_at_once_and_the_result_takes_their_place(tmp_path: Path) -> None:
    observer, place = watching(tmp_path), tmp_path / "tensorboard/base/seed0/train"
    assert scalars(place) == {"live/loss": [(1, 3.0), (4, 2.0)], "live/accuracy": [(1, 0.25)]}
    for _ in range(2):
        observer.job_finished(JobEnd(JOB, 1.0, {"kept": 0.5}, CURVES))
        found = scalars(place)
        assert found.keys() == {"curves/loss", "curves/bad", "metrics/kept"}, "steps are whole numbers"
        assert found["curves/loss"] == [(4, 2.5), (8, 1.5)]
        assert np.isnan(found["curves/bad"][0][1])
        assert found["metrics/kept"] == [(0, 0.5)]
    observer.run_ended(RunEnd(True, ()))


def test_live_points_of_a_killed_run_go_when_the_next_one_starts(tmp_path: Path) -> None:
    watching(tmp_path).run_ended(RunEnd(False, ()))
    place = tmp_path / "tensorboard/base/seed0/train"
    assert len(scalars(place)["live/loss"]) == 2, "how far it came"
    watching(tmp_path)
    assert len(scalars(place)["live/loss"]) == 2


def test_live_points_can_be_left_out(tmp_path: Path) -> None:
    watching(tmp_path, live=False)
    assert not list(tmp_path.rglob("*tfevents*"))


def test_numbers_without_an_epoch_are_told_over_steps_or_their_count(tmp_path: Path) -> None:
    observer = TensorBoard(TensorBoardConfig())
    observer.run_started(start(tmp_path))
    observer.job_progress(JOB, {"resumed": 3.0})
    observer.job_progress(JOB, {"step": 7.0, "gap": 1.0})
    observer.job_progress(JOB, {"gap": 0.5})
    assert scalars(tmp_path / "tensorboard/base/seed0/train") == {"live/gap": [(7, 1.0), (3, 0.5)]}


def test_without_the_extra_the_recipe_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        Recipe.of(RECIPE)
    (problem,) = caught.value.problems
    assert problem.message.startswith("observe.0.uses: TensorBoard is not installed")
    assert problem.hint == "pip install 'compressit[tensorboard]'"
