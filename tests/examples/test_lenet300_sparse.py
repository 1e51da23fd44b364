"""examples/lenet300_sparse.yaml, on data that need no download: how many weights are left, and what chose them."""

from __future__ import annotations

from conftest import Quick

SWAPS = {
    "data: {uses: data.mnist, with: {validation: 0.1, augment: [{crop: 1}]}}":
        "data: {uses: data.synthetic, with: {shape: [1, 28, 28], train: 2000, test: 1000, noise: 1.5}}",
    "data: {with: {limit: 6000}}": "data: {with: {limit: 2000}}",
}  # fmt: skip


def test_few_weights_are_left_and_sparse_momentum_chooses_them_best(quick: Quick) -> None:
    rows = {row.stage: row.metrics for row in quick("lenet300_sparse", swaps=SWAPS)}
    assert rows["train"]["nonzero"] == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    for stage, times in (("sparse57", 57), ("gradual57", 57), ("sparse68", 68)):
        assert rows["train"]["nonzero"] / rows[stage]["nonzero"] > times, stage
    assert rows["sparse57"]["test_accuracy"] > rows["gradual57"]["test_accuracy"]
