"""examples/chapter20/03_overparameterisation.yaml: its own models are in the report's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compressit.contract.results import Results
from compressit_plugins.overparameterisation.nets import measured

if TYPE_CHECKING:
    from conftest import Quick


def test_its_perceptrons_have_the_parameters_and_examples_that_the_report_needs(quick: Quick) -> None:
    rows = quick(
        "chapter20/03_overparameterisation", "data.with.train=300", "data.with.limit=200",
        "stages.train.with.epochs=1", swaps={"data.mnist": "data.synthetic"},
    )  # fmt: skip
    nets = measured(Results("overparameterisation", "quick", rows, {}, {}))
    sizes = [64 * 32 + 32 + 330, 64 * 200 + 200 + 200 * 201 + 2010, 64 * 1000 + 1000 + 1000 * 1001 + 10010]
    assert [net.ratio for net in nets] == pytest.approx([size / 200 for size in sizes])
