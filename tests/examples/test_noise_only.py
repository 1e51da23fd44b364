"""examples/noise_only.yaml and docs/noise.md: each noise is tried on both nets, and says what it knows of the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from tiny import Bench

import compressit
from compressit.contract.results import Row
from compressit.host.plugins import installed
from compressit_plugins.shrink.noise_options import NoiseConfig

ROOT = Path(__file__).parent.parent.parent
KNOWING = {"pixel", "covariance", "spectrum"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noise_only")


@pytest.fixture
def rows(folder: Path, bench: Bench) -> dict[tuple[str, str], Row]:
    """By variant and noise ("" for the nets themselves). Run once: the second time everything is in the store."""
    recipe = compressit.load_recipe(ROOT / "examples" / "noise_only.yaml", host=installed(), profile="quick")
    results = compressit.run(recipe, out=folder / "run", store=folder / "store").results
    return {(row.variant, row.member.removeprefix("noise=")): row for row in results.rows}


def test_every_noise_is_tried_on_both_nets_and_says_what_it_knows(rows: dict[tuple[str, str], Row]) -> None:
    assert len(rows) == 2 * 6
    for (variant, noise), row in rows.items():
        if noise:
            knows = row.notes["noise"]["statistics"] != "none"
            assert knows == (noise in KNOWING), (variant, noise)
            assert row.metrics["parameters"] < 0.3 * rows[variant, ""].metrics["parameters"]
            assert 0 < row.metrics["noise_entropy_bits"] <= 3.33
            assert [x for x, _ in row.curves["retention_test"]][:3] == [2000, 4000, 8000]


def test_students_that_saw_noise_only_know_the_data(rows: dict[tuple[str, str], Row]) -> None:
    for variant in ("mlp", "convnet"):
        assert rows[variant, ""].metrics["test_accuracy"] > 0.95
        assert rows[variant, "covariance"].metrics["test_accuracy"] > 0.7, variant
    assert rows["mlp", "normal"].metrics["test_accuracy"] > 0.7, "without any statistic of the data"


def test_the_page_says_of_every_noise_what_it_assumes() -> None:
    page = (ROOT / "docs" / "noise.md").read_text(encoding="utf-8")
    table = page.split("## What each noise assumes")[1].split("\n\n")[1]
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)[1:]) == set(
        get_args(NoiseConfig.model_fields["noise"].annotation)
    )
