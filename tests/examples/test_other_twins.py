"""The twins on other data and of other sizes: what was learned survives the noise, what was memorised does not."""

from __future__ import annotations

import pytest
from conftest import Quick

NO_DOWNLOAD = {
    "data: {uses: data.fashion_mnist, with: {scale: unit}}":
        "data: {uses: data.synthetic, with: {shape: [3, 16, 16], scale: standard}}",
    "data: {with: {limit: 5000}}": "data: {with: {train: 1000, test: 500}}",
}  # fmt: skip


@pytest.mark.parametrize("name", ["twins_fashion", "twins_cifar10jpeg"])
def test_noise_passes_on_what_was_learned(quick: Quick, name: str) -> None:
    settings = [f"stages.{stage}.repeat=1" for stage in ("covariance", "smooth")]
    settings += [f"stages.{stage}.with.images=1500" for stage in ("covariance", "smooth")]
    fashion = name == "twins_fashion"
    settings += ["stages.train.with.batch_size=32"] if fashion else []
    rows = {
        (row.variant, row.stage): row.metrics
        for row in quick(name, *settings, swaps=NO_DOWNLOAD if fashion else None)
    }
    for stage in ("covariance", "smooth"):
        real, fake = rows["real", stage], rows["fake", stage]
        assert real["parameters"] == fake["parameters"] < 0.5 * rows["real", "train"]["parameters"]
        assert real["train_accuracy"] > fake["train_accuracy"] + 0.05, stage
        assert real["test_accuracy"] > fake["test_accuracy"] + 0.3, stage


def test_twins_of_every_size_are_halved(quick: Quick) -> None:
    rows = quick("twins_sizes", "sweep={model.with.hidden: [[64, 64], [256, 256]]}")
    found = {(row.variant, row.stage): row.metrics for row in rows}
    assert len(found) == 2 * 2 * 2
    for (variant, stage), metrics in found.items():
        if stage == "student":
            assert metrics["parameters"] < 0.5 * found[variant, "train"]["parameters"]
    assert found["real,hidden=256-256", "student"]["test_accuracy"] > 0.9
    assert found["fake,hidden=256-256", "student"]["train_accuracy"] < 0.5
