"""report.overparameterisation: the published numbers, and those of a run's own models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compressit.contract.results import Results
from compressit.testing.samples import full
from compressit_plugins.overparameterisation.nets import IMAGENET, measured, published
from compressit_plugins.overparameterisation.report import (
    OverparameterisationConfig,
    OverparameterisationReport,
)

OUTSIDE = {
    "EfficientNet-B0",
    "EfficientNet-B1",
    "EfficientNet-B2",
    "EfficientNet-B3",
    "SENet",
    "AmoebaNet-C",
    "GPipe",
}


def _report(**options: float) -> OverparameterisationReport:
    return OverparameterisationReport(OverparameterisationConfig(**options))


def test_seventeen_of_twenty_four_published_nets_have_ten_to_a_hundred_times_as_many_parameters() -> None:
    """Between 12.8 and 128.1 million: by hand from the table, all but seven."""
    nets = published()
    assert len(nets) == 24
    assert {net.name for net in nets if not 12.81167e6 <= net.parameters <= 128.1167e6} == OUTSIDE
    told = _report().paragraphs(full())[0]
    assert "17 of 24" in told
    assert "70.8" in told
    assert "is the case" in told
    assert "is not the case" in _report(asked=0.71).paragraphs(full())[0]
    assert "24 of 24" in _report(least=4, most=440).paragraphs(full())[0]


@pytest.mark.parametrize(
    ("name", "million", "accuracy"),
    [("ResNet-50", 26, 0.76), ("EfficientNet-B7", 66, 0.843), ("GPipe", 557, 0.843), ("Xception", 23, 0.79)],
)
def test_published_numbers_are_those_of_the_paper(name: str, million: float, accuracy: float) -> None:
    net = next(net for net in published() if net.name == name)
    assert (net.parameters, net.accuracy, net.examples) == (million * 1e6, pytest.approx(accuracy), IMAGENET)
    assert net.source == "arXiv:1905.11946v5 table 2"


def test_a_runs_models_stand_beside_them_with_the_examples_of_their_training() -> None:
    """The sample's trainings show 20,000 images in 20 epochs, so 1,000 examples; widths have 795 parameters a unit."""
    nets = {net.name: net for net in measured(full())}
    train = nets["one train"]
    assert train.ratio == pytest.approx(64 * 795 / 1000)
    assert train.accuracy == pytest.approx(0.95 - 0.005), "the mean of two seeds"
    figure = _report().figures(full())["overparameterisation"]
    assert figure.axes[0].get_xscale() == "log"
    assert any("this run" in text.get_text() for text in figure.legends[0].get_texts())
    rows = _report().tables(full())[0].rows
    assert len(rows) == 24 + len(nets)


def test_a_model_made_of_a_trained_one_counts_its_examples_and_one_of_unknown_examples_is_left_out() -> None:
    rows = full().rows
    pruned = [replace(row, notes={}) if row.uses == "testing.prune" else row for row in rows]
    assert "one prune@sparsity=0.5" in {net.name for net in measured(_with(pruned))}
    cut = [replace(row, options={"steps": 10}, parent=None) for row in rows]
    assert measured(_with(cut)) == []
    assert "no model" in _report().paragraphs(_with(cut))[1]


def _with(rows: list) -> Results:  # type: ignore[type-arg]
    return replace(full(), rows=rows)
