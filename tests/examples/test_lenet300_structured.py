"""examples/lenet300_structured.yaml: a tenth of the weights, none of them zero, with and without low rank."""

from __future__ import annotations

from conftest import Quick


def test_both_ways_leave_dense_nets_under_28000_weights(quick: Quick) -> None:
    rows = {(row.variant, row.stage): row.metrics for row in quick("lenet300_structured")}
    assert (
        rows["low_rank", "recover"]["parameters"] == 784 * 24 + 24 * 100 + 100 + 100 * 50 + 50 + 50 * 10 + 10
    )
    for variant in ("units", "low_rank"):
        last = rows[variant, "recover"]
        assert 26_000 < last["parameters"] < 28_000, variant
        assert last["nonzero"] == last["parameters"], variant
        assert last["test_accuracy"] > rows[variant, "narrow"]["test_accuracy"] + 0.1, variant
