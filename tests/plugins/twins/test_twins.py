"""report.twins: figures only where there are numbers, and words that follow the numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compressit.contract.results import Results, Row
from compressit.results.page import render
from compressit_plugins.twins.figures import FAKE, REAL
from compressit_plugins.twins.report import TwinsConfig, TwinsReport

WIDTHS = (256, 128, 64, 32, 16, 8)
KEPT = {  # accuracy on the labels given, test accuracy
    ("real", "blog"): (0.20, 0.199), ("fake", "blog"): (0.12, 0.10),
    ("real", "covariance"): (0.985, 0.945), ("fake", "covariance"): (0.245, 0.101),
}  # fmt: skip
FIT = {"real": (0.999, 0.998, 0.996, 0.99, 0.96, 0.91), "fake": (0.998, 0.97, 0.93, 0.84, 0.7, 0.6)}
LOSSES = ["training_loss_blog", "training_loss_covariance"]
OBSERVATION = "the post's observation, that the twin which memorised stops fitting its noise first,"


def make_row(variant: str, stage: str, seed: int = 0, **fields: Any) -> Row:
    values: dict[str, Any] = {"round": None, "member": "", "uses": "shrink.noise", "teacher": "train"}
    values |= {"metrics": {}, "notes": {}, "curves": {}} | fields
    return Row(variant=variant, stage=stage, seed=seed, **values)


def make_twins(seeds: Sequence[int] = (0,), widths: Sequence[int] = WIDTHS) -> Results:
    """A run of two variants: the twins, and stages `blog` and `covariance` of a round for each width."""
    places = [(seed, variant) for seed in seeds for variant in ("real", "fake")]
    rows = [
        row
        for seed, variant in places
        for row in (
            _twin(variant, seed),
            *(_student(variant, seed, "blog", *number) for number in enumerate(widths)),
            *(_student(variant, seed, "covariance", *number) for number in enumerate(widths)),
        )
    ]
    return Results("mnist_twins", "quick", rows, {}, {"date": "2030-01-02 03:04"})


def _twin(variant: str, seed: int) -> Row:
    real = variant == "real"
    train, test = (1.0, 0.954) if real else (0.976, 0.098)
    metrics = {"train_accuracy": train, "test_accuracy": test + 0.002 * seed, "nonzero": 512 * 512}
    loss = [(79 * (i + 1), 2.3 * math.exp(-i / 20)) for i in range(100)]
    return make_row(
        variant,
        "train",
        seed,
        uses="train.supervised",
        metrics=metrics,
        notes={"width": 512},
        curves={"loss": loss},
    )


def _student(variant: str, seed: int, stage: str, index: int, width: int) -> Row:
    blog, (train, test) = stage == "blog", KEPT[variant, stage]
    fit = FIT[variant][min(index, 5)]
    metrics = {
        "train_accuracy": train - 0.01 * index + 0.004 * seed, "test_accuracy": test - 0.01 * index,
        "fit_agreement": fit, "noise_agreement": fit - 0.08, "nonzero": width * width,
        "noise_majority": (0.85 if variant == "real" else 0.55) if blog else 0.25,
        "noise_entropy_bits": 0.7 if blog else 2.9,
    }  # fmt: skip
    noise = {"kind": "uniform" if blog else "covariance", "labels": "hard" if blog else "logits"}
    curves = {"loss": [(79 * (i + 1), 2.3 * math.exp(-0.4 * i) + 1 - fit) for i in range(20)]}
    curves["retention_train"] = [(0, 0.1), (1000, train / 2), (2000, train)]
    curves["retention_test"] = [(0, 0.1), (1000, test / 2), (2000, test)]
    notes = {"width": width, "noise": noise}
    return make_row(variant, stage, seed, round=index + 1, metrics=metrics, notes=notes, curves=curves)


def change(results: Results, variant: str, stage: str, number: int | None = None, **metrics: Any) -> Results:
    """The same run with other metrics (None: without them) for the rows of a variant and stage, or of one round."""

    def new(each: Row) -> Row:
        if (each.variant, each.stage) != (variant, stage) or number not in (None, each.round):
            return each
        merged = {**each.metrics, **metrics}
        return replace(each, metrics={name: value for name, value in merged.items() if value is not None})

    return replace(results, rows=[new(each) for each in results.rows])


def with_pruning(results: Results) -> Results:
    pruned = [
        make_row(
            variant,
            "prune",
            member=f"sparsity={sparsity}",
            metrics={"train_accuracy": 0.9, "test_accuracy": 0.93, "nonzero": 1000 * (1 - sparsity)},
        )
        for variant in ("real", "fake")
        for sparsity in (0.5, 0.9)
    ]
    return replace(results, rows=[*results.rows, *pruned])


def report(**options: str) -> TwinsReport:
    return TwinsReport(TwinsConfig.model_validate(options))


def words(results: Results) -> str:
    return " ".join(report().paragraphs(results)).replace("\u202f", " ")


def test_importing_the_plugin_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, compressit_plugins.twins.report\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Figures


def test_figures_are_those_with_numbers() -> None:
    results = make_twins()
    others = ["accuracy_against_width", "label_entropy", "retention_against_noise"]
    assert list(report().figures(results)) == [*LOSSES, *others]
    assert list(report().figures(with_pruning(results))) == [*LOSSES, *others, "strategies"]
    silent = replace(results, rows=[replace(row, curves={}) for row in results.rows])
    assert list(report().figures(silent)) == ["accuracy_against_width", "label_entropy"]
    trained = replace(results, rows=[row for row in results.rows if row.stage == "train"])
    assert list(report().figures(trained)) == list(report().figures(replace(results, rows=[]))) == []


def test_retention_shows_the_first_middle_and_last_round_and_no_noise_has_no_place() -> None:
    panel = report().figures(make_twins())["retention_against_noise"].axes[0]  # training labels, blog
    real = [line for line in panel.lines if line.get_color() == "#1a9641"]
    assert [line.get_xdata().tolist() for line in real] == [[1000, 2000]] * 3
    assert [line.get_ydata()[-1] for line in real] == [KEPT["real", "blog"][0]] * 3
    assert [line.get_alpha() for line in real] == pytest.approx([1.0, 0.68, 0.36])
    assert "rounds 1, 4, 6" in panel.get_title()


def test_entropy_is_drawn_up_to_that_of_equally_frequent_labels() -> None:
    figure = report().figures(make_twins())["label_entropy"]
    assert figure.axes[0].get_ylim()[1] == pytest.approx(1.06 * math.log2(10))
    assert figure.axes[1].lines[0].get_ydata().tolist() == [2.9] * 6


def test_loss_has_a_panel_per_round_in_the_blogs_colours() -> None:
    figure = report().figures(make_twins())["training_loss_blog"]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [panel.get_title() for panel in panels][:2] == ["twins, width 512", "round 1, width 256"]
    assert len(panels) == 7
    for panel in panels:
        assert [line.get_color() for line in panel.lines] == [REAL, FAKE]
    assert panels[1].lines[0].get_ydata()[0] == pytest.approx(2.3 + 0.001)  # real, first epoch


def test_accuracy_starts_at_the_twin_and_falls_to_the_right() -> None:
    panel = report().figures(make_twins())["accuracy_against_width"].axes[1]  # training labels, covariance
    assert panel.lines[0].get_color() == REAL
    assert list(panel.lines[0].get_xdata()) == [512, *WIDTHS]
    assert list(panel.lines[0].get_ydata())[:2] == [1.0, 0.985]
    assert panel.xaxis_inverted()
    assert not panel.collections, "one seed: no band"


def test_several_seeds_are_drawn_as_mean_and_band() -> None:
    panel = report().figures(make_twins(seeds=(0, 1, 2)))["accuracy_against_width"].axes[1]
    assert panel.lines[0].get_ydata()[1] == pytest.approx(0.985 + 0.004)  # the mean of 0.985, 0.989, 0.993
    low = min(y for x, y in panel.collections[0].get_paths()[0].vertices if x == 256)
    assert low == pytest.approx(0.989 - 0.004)  # their standard deviation is 0.004


def test_members_of_a_sweep_with_rounds_are_stages_of_their_own_and_names_are_no_formulas(
    tmp_path: Path,
) -> None:
    results = make_twins(widths=(256, 128))
    members = {"blog": r"b=$\frac$", "covariance": "b=1"}
    rows = [
        replace(r, stage="noise", member=members[r.stage]) if r.stage in members else r for r in results.rows
    ]
    figures = report().figures(replace(results, rows=rows))
    assert list(figures)[:2] == ["training_loss_noise_b_frac_", "training_loss_noise_b_1"]
    figures["accuracy_against_width"].savefig(tmp_path / "a.png")


def test_the_page_is_small_complete_and_the_same_twice(tmp_path: Path) -> None:
    results = with_pruning(make_twins(seeds=(0, 1), widths=(256,)))
    for folder in ("one", "two"):
        assert render(results, [("report.twins", report)], tmp_path / folder) == []
    page = (tmp_path / "one" / "report.html").read_bytes()
    assert len(page) <= 5_000_000
    assert page.count(b"data:image/png;base64") == 6
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


# Words


def test_words_say_what_the_twins_are_and_what_half_the_width_keeps() -> None:
    results = make_twins()
    text = words(results)
    assert "accuracy is 100.0 % (real) and 97.6 % (fake) on their own training labels" in text
    assert "95.4 % (real) and 9.8 % (fake) on the test set (chance: 10.0 %)" in text
    kept = "width 256: 98.5 % (real) and 24.5 % (fake) on the training labels and 94.5 % (real) and 10.1 % (fake)"
    assert f"covariance (covariance noise, logits), {kept} on the test set" in text
    assert "98.5 % (real) and 41.2 % (fake)" in words(
        change(results, "fake", "covariance", 1, train_accuracy=0.412)
    )
    assert words(make_twins(widths=(410, 328, 263, 211, 169))).count("width 263: ") == 2
    assert "(chance: 25.0 %)" in words(replace(results, about={"classes": 4}))
    assert "means of 2 seeds" in words(make_twins(seeds=(0, 1)))


def test_words_say_which_noise_knows_something_of_the_data() -> None:
    results = make_twins()
    assert "statistic" not in words(results), "not noted: not said"
    known = {"blog": "none", "covariance": "of the training inputs"}
    rows = [
        replace(row, notes={**row.notes, "noise": {**row.notes["noise"], "statistics": known[row.stage]}})
        if row.stage in known
        else row
        for row in results.rows
    ]
    again = [replace(row, stage="smooth") for row in rows if row.stage == "blog"]
    text = words(replace(results, rows=[*rows, *again]))
    assert "blog and smooth: no statistic of the data; covariance: statistics of the training inputs." in text


@pytest.mark.parametrize(
    ("changes", "stops", "verdict"),
    [
        ([], "every student of real does and the first student of fake that does not has width 32", "was seen."),
        ([("fake", 0.99)], "every student of fake does", "was not tested: too few rounds."),
        ([("real", 0.2)], "the first student of real that does not has width 256", "not seen: real stops first."),
        ([("real", 0.2), ("fake", 0.2)], "of fake that does not has width 256", "not seen: both stop together."),
    ],
)  # fmt: skip
def test_whether_the_posts_observation_was_seen(
    changes: list[tuple[str, float]], stops: str, verdict: str
) -> None:
    results = make_twins()
    for variant, fit in changes:
        results = change(results, variant, "blog", fit_agreement=fit)
    *_, text = report().paragraphs(results)
    assert "90 % of it (share of the most frequent label: 85.0 % (real) and 55.0 %" in text.replace(
        "\u202f", " "
    )
    assert stops in text
    assert OBSERVATION in text
    assert text.endswith(verdict)


def test_what_is_not_known_is_said_not_to_be() -> None:
    results = make_twins()
    rows = [row for row in results.rows if row.variant == "real" or row.round in (None, 1)]
    interrupted = replace(results, rows=rows, missing=["fake/seed0/blog-02"])
    assert list(report().figures(interrupted))[:2] == LOSSES
    for unknown in (
        interrupted,
        change(results, "fake", "blog", fit_agreement=math.nan, train_accuracy=math.inf),
    ):
        text = words(unknown)
        assert f"On blog, {OBSERVATION} is undecided" in text
        assert "nan" not in text
        assert "inf" not in text
    for variant in ("real", "fake"):
        results = change(results, variant, "train", test_accuracy=None)
    assert "unknown (test_accuracy is missing) on the test set" in words(results)
    soft = [row for row in results.rows if row.stage != "blog"]
    assert f"{OBSERVATION} was not tested" in words(replace(results, rows=soft))


def test_a_run_of_other_variants_is_told_what_is_expected() -> None:
    assert report(real="true").paragraphs(make_twins()) == [
        "The twins cannot be compared: there is no model of true (variants: real, fake)."
    ]
    assert "cannot be compared" in words(replace(make_twins(), rows=[]))
