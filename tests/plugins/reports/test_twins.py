"""report.twins: figures only where there are numbers, and words that follow the numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compressit.contract.results import Results, Row
from compressit.results.page import render
from compressit_plugins.reports.twins import TwinsConfig, TwinsReport, compressit_reports
from compressit_plugins.reports.twins_drawing import FAKE, REAL
from compressit_plugins.reports.twins_rows import Twins
from compressit_plugins.reports.twins_words import retention

Make = Callable[..., Results]
LOSSES = ["training_loss_blog", "training_loss_covariance"]


def report() -> TwinsReport:
    return TwinsReport(TwinsConfig.model_validate({}))


def words(results: Results) -> str:
    return " ".join(report().paragraphs(results)).replace("\u202f", " ")


def without_curve(results: Results, *names: str) -> Results:
    rows = [replace(r, curves={n: c for n, c in r.curves.items() if n not in names}) for r in results.rows]
    return replace(results, rows=rows)


def with_pruning(results: Results, make_row: Callable[..., Row]) -> Results:
    pruned = []
    for variant, sparsity in (("real", 0.5), ("real", 0.9), ("fake", 0.5), ("fake", 0.9)):
        metrics = {
            "train_accuracy": 0.97 - sparsity / 9,
            "test_accuracy": 0.93,
            "nonzero": 1000 * (1 - sparsity),
        }
        pruned.append(make_row(variant, "prune", member=f"sparsity={sparsity}", metrics=metrics))
    return replace(results, rows=[*results.rows, *pruned])


def test_the_plugin_is_offered_by_its_hook() -> None:
    assert list(compressit_reports()) == [TwinsReport]
    assert TwinsReport.Config is TwinsConfig


def test_importing_the_plugin_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, compressit_plugins.reports.twins as t\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_whole_run_has_every_figure(make_twins: Make, make_row: Callable[..., Row]) -> None:
    results = make_twins()
    others = ["accuracy_against_width", "label_entropy", "retention_against_noise"]
    assert list(report().figures(results)) == [*LOSSES, *others]
    assert list(report().figures(with_pruning(results, make_row))) == [*LOSSES, *others, "strategies"]


def test_figures_without_numbers_are_left_out(make_twins: Make, change: Make) -> None:
    results = without_curve(make_twins(), "loss", "retention_train", "retention_test")
    assert list(report().figures(results)) == ["accuracy_against_width", "label_entropy"]
    nothing = dict.fromkeys(("noise_entropy_bits", "noise_majority"))
    for variant in ("real", "fake"):
        for stage in ("blog", "covariance"):
            results = change(results, variant, stage, **nothing)
    assert list(report().figures(results)) == ["accuracy_against_width"]
    trained = replace(results, rows=[row for row in results.rows if row.stage == "train"])
    assert list(report().figures(trained)) == []
    assert list(report().figures(replace(results, rows=[]))) == []


def test_loss_has_a_panel_per_round_in_the_blogs_colours(make_twins: Make) -> None:
    figure = report().figures(make_twins())["training_loss_blog"]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [panel.get_title() for panel in panels][:2] == ["twins, width 512", "round 1, width 256"]
    assert len(panels) == 7
    for panel in panels:
        assert [line.get_color() for line in panel.lines] == [REAL, FAKE]
    assert panels[1].lines[0].get_ydata()[0] == pytest.approx(2.3 + 0.001)  # real, first epoch


def test_accuracy_starts_at_the_twin_and_falls_to_the_right(make_twins: Make) -> None:
    figure = report().figures(make_twins())["accuracy_against_width"]
    panel = figure.axes[1]  # training labels, covariance
    real = next(line for line in panel.lines if line.get_color() == REAL)
    assert list(real.get_xdata()) == [512, 256, 128, 64, 32, 16, 8]
    assert list(real.get_ydata())[:2] == [1.0, 0.985]
    assert panel.xaxis_inverted()


def test_several_seeds_are_drawn_as_mean_and_band(make_twins: Make) -> None:
    figure = report().figures(make_twins(seeds=(0, 1, 2)))["accuracy_against_width"]
    panel = figure.axes[1]
    real = next(line for line in panel.lines if line.get_color() == REAL)
    assert real.get_ydata()[1] == pytest.approx(0.985 + 0.004)  # the mean of 0.985, 0.989, 0.993
    low = min(y for x, y in panel.collections[0].get_paths()[0].vertices if x == 256)
    assert low == pytest.approx(0.989 - 0.004)  # their standard deviation is 0.004
    assert not report().figures(make_twins())["accuracy_against_width"].axes[1].collections


def test_an_interrupted_run_is_drawn_as_far_as_it_came(make_twins: Make) -> None:
    results = make_twins()
    rows = [row for row in results.rows if row.variant == "real" or row.round in (None, 1)]
    partial = replace(results, rows=rows, missing=["fake/seed0/blog-02", "fake/seed0/blog-03"])
    assert list(report().figures(partial))[:2] == LOSSES
    text = words(partial)
    assert "This run is not complete: 2 planned models not there yet" in text
    assert "not known for every round of both twins, so the question stays open" in text


def test_words_are_computed_from_the_numbers(make_twins: Make, change: Make) -> None:
    results = make_twins()
    text = words(results)
    assert (
        "the twins get 100.0 % (real) and 97.6 % (fake) of the training labels they were given right" in text
    )
    assert "95.4 % (real) and 9.8 % (fake) of the test set" in text
    assert "99.9 % (real) and 99.8 % (fake) of the noise they were trained on" in text
    assert "0.70 (real) and 1.80 (fake) bits" in text
    assert "they keep 98.5 % (real) and 24.5 % (fake)" in text
    assert "after 200 000 noise images" in text
    assert "at this budget" in text
    changed = words(change(results, "fake", "covariance", round=1, train_accuracy=0.412))
    assert "they keep 98.5 % (real) and 41.2 % (fake)" in changed
    assert "24.5 %" not in changed


def test_almost_constant_labels_are_called_misleading(make_twins: Make, change: Make) -> None:
    results = make_twins()
    warning = "For real these labels are almost constant: one answer to everything already fits 85.0 %"
    assert warning in words(results)
    assert "almost constant" not in words(change(results, "real", "blog", noise_majority=0.5))


def test_the_repeated_stage_is_described_at_about_half_the_width(make_twins: Make) -> None:
    results = make_twins(widths=(410, 328, 263, 211, 169))
    assert words(results).count("At width 263 the students agree") == 2


def test_beside_the_posts_conclusion(make_twins: Make, change: Make) -> None:
    results = make_twins()
    text = words(results)
    assert "The post concludes that the student of the real-labelled twin keeps converging" in text
    assert "at least 90 % of what it was trained on" in text
    stops = "every student of real does and the first student of fake that does not is round 4 (width 32)"
    assert f"On blog {stops}: this agrees with the post's observation." in text
    sooner = words(change(results, "fake", "blog", round=2, fit_agreement=0.5))
    assert "the first student of fake that does not is round 2 (width 128): this agrees" in sooner


@pytest.mark.parametrize(
    ("variant", "fit", "verdict"),
    [
        (
            "fake",
            0.99,
            "every student of fake does: so this stage has too few rounds to try the post's observation",
        ),
        ("real", 0.2, "real stops first, the reverse of the post's observation"),
    ],
)
def test_numbers_that_do_not_agree_are_said_not_to(
    make_twins: Make, change: Make, variant: str, fit: float, verdict: str
) -> None:
    text = words(change(make_twins(), variant, "blog", fit_agreement=fit))
    assert verdict in text
    assert "this agrees with the post's observation" not in text


def test_a_verdict_that_hangs_on_the_majority_is_said_to(make_twins: Make, change: Make) -> None:
    # Real stays above 90 % because one label is 89 % of the noise: it learned next to nothing beyond that.
    results = change(make_twins(), "real", "blog", fit_agreement=0.905, noise_majority=0.89)
    text = words(results)
    assert "this agrees with the post's observation" in text
    assert "the first student of real that does not is round 1 (width 256)" in text
    assert (
        "real stops first, the reverse of the post's observation. So the verdict depends on the criterion"
        in text
    )


def test_what_survived_is_counted_over_chance(make_twins: Make, change: Make) -> None:
    results = make_twins()
    twins = Twins(results, "real", "fake", "train")
    first = twins.points("fake", "covariance")[0]
    assert retention(twins, "fake", first) == pytest.approx((0.245 - 0.1) / (0.976 - 0.1))
    assert retention(twins, "fake", twins.teacher("fake")) == pytest.approx(1.0)
    assert retention(twins, "fake", None) is None
    text = words(results)
    assert (
        "On covariance, at width 256, real keeps 98.3 % and fake 16.6 %; what the real labels taught" in text
    )
    assert "little of either passed, so this stage does not tell learning from memorising" in text
    equal = words(change(results, "fake", "covariance", train_accuracy=0.95))
    assert "both passed about equally, at this budget, which speaks against the post's reading" in equal


def test_chance_follows_the_number_of_classes(make_twins: Make) -> None:
    results = make_twins()
    assert "(chance: 10.0 %)" in words(results)
    assert "(chance: 25.0 %)" in words(replace(results, about={**results.about, "classes": 4}))


def test_members_of_a_fanned_out_repeated_stage_are_repeated_stages_of_their_own(make_twins: Make) -> None:
    results = make_twins()
    renamed = {"blog": "noise=uniform", "covariance": "noise=covariance"}
    rows = [
        replace(r, stage="noise", member=renamed[r.stage]) if r.stage in renamed else r for r in results.rows
    ]
    fanned = replace(results, rows=rows)
    assert list(report().figures(fanned))[:2] == [
        "training_loss_noise_noise_uniform",
        "training_loss_noise_noise_covariance",
    ]
    told = words(fanned)
    for stage, each in renamed.items():
        told = told.replace(f"noise@{each}", stage)
    assert told == words(results)


def test_twins_are_said_to_differ_in_labels_alone_only_where_they_do(make_twins: Make) -> None:
    def variant(name: str, epochs: int, **data: object) -> dict[str, object]:
        config = {"limit": 10, "labels": "given", **data}
        return {"name": name, "data": {"uses": "data.mnist", "config": config}, "stages": [epochs]}

    def told(real: dict[str, object], fake: dict[str, object]) -> bool:
        config = {"variants": {"real": real, "fake": fake}}
        return "differ in their labels alone" in words(replace(make_twins(), config=config))

    assert told(variant("real", 5), variant("fake", 5, labels="random"))
    assert not told(variant("real", 5), variant("fake", 6, labels="random"))
    assert not told(variant("real", 5), variant("fake", 5, labels="random", limit=9))


def test_statistics_of_real_data_are_named(make_twins: Make) -> None:
    results = make_twins()
    noise = {
        "kind": "covariance",
        "labels": "logits",
        "redraw": "epoch",
        "statistics": "of the training inputs",
    }
    rows = [
        replace(r, notes={**r.notes, "noise": noise}) if r.stage == "covariance" else r for r in results.rows
    ]
    assert "imitating statistics of the training inputs, so not without data" in words(
        replace(results, rows=rows)
    )
    assert "imitating" not in words(results)


def test_missing_numbers_are_named(make_twins: Make, change: Make) -> None:
    results = make_twins()
    for variant in ("real", "fake"):
        results = change(results, variant, "train", test_accuracy=None)
        results = change(results, variant, "blog", fit_agreement=None, noise_entropy_bits=None)
    text = words(results)
    assert "an unknown share (test_accuracy is missing) of the test set" in text
    assert "The entropy of the teachers' labels on this noise is missing" in text
    assert "not known for every round of both twins" in text


def test_numbers_that_are_not_finite_count_as_missing(make_twins: Make, change: Make) -> None:
    results = change(make_twins(), "fake", "blog", fit_agreement=math.nan, train_accuracy=math.inf)
    assert "nan" not in words(results)
    assert LOSSES[0] in report().figures(results)


def test_a_run_of_other_variants_is_told_what_is_expected(make_twins: Make) -> None:
    results = make_twins()
    config = TwinsConfig.model_validate({"real": "true", "fake": "fake"})
    assert TwinsReport(config).paragraphs(results) == [
        "The twins cannot be compared: no model of true is there (variants: real, fake)."
    ]
    assert "cannot be compared" in words(replace(results, rows=[]))


def test_strategies_are_told_at_their_smallest(make_twins: Make, make_row: Callable[..., Row]) -> None:
    text = words(with_pruning(make_twins(), make_row))
    assert "prune, at its smallest (100 non-zero parameters): 87.0 % (real) and 87.0 % (fake)" in text


def test_names_are_not_formulas(make_twins: Make, tmp_path: Path) -> None:
    results = make_twins(widths=(256, 128))
    rows = [replace(r, stage={"blog": r"b$\frac$"}.get(r.stage, r.stage)) for r in results.rows]
    figures = report().figures(replace(results, rows=rows))
    figures["accuracy_against_width"].savefig(tmp_path / "a.png")


def test_the_page_is_small_complete_and_the_same_twice(
    make_twins: Make, make_row: Callable[..., Row], tmp_path: Path
) -> None:
    results = with_pruning(make_twins(seeds=(0, 1), widths=(256,)), make_row)
    results = replace(results, rows=[row for row in results.rows if row.stage != "blog"])
    for folder in ("one", "two"):
        assert render(results, [("report.twins", report)], tmp_path / folder) == []
    page = (tmp_path / "one" / "report.html").read_bytes()
    assert len(page) <= 5_000_000
    assert page.count(b"data:image/png;base64") == 5
    assert b"A report is incomplete" not in page
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path
