"""examples/chapter20/11_flat_and_sharp.yaml: what is measured at both solutions, and on the line through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_the_line_leads_through_both_solutions_and_the_large_batches_are_sharper(quick: Quick) -> None:
    rows = quick(
        "chapter20/11_flat_and_sharp", "data.with.train=200", "data.with.noise=0.5",
        "stages.small.with.epochs=15", "stages.large.with.epochs=15", "stages.large.with.batch_size=100",
        swaps={"data.mnist1d": "data.synthetic"},
    )  # fmt: skip
    found = {row.stage: row for row in rows}
    small, large = found["small"], found["large"]
    places = dict(small.curves["slice_accuracy"])
    assert (min(places), max(places), len(places)) == (-1, 2, 25)
    assert places[0] == pytest.approx(small.metrics["train_accuracy"])
    assert places[1] == pytest.approx(large.metrics["train_accuracy"])
    assert dict(small.curves["slice_test_accuracy"])[1] == pytest.approx(large.metrics["test_accuracy"])
    for name in ("sharpness", "sharpness_ball", "sharpness_adaptive"):
        assert 0 < small.metrics[name] < large.metrics[name], name
    assert small.metrics["slice_bend"] < small.metrics["slice_other_bend"]
