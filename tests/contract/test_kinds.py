from __future__ import annotations

import pytest
from pydantic import Field

from compressit.config import Config, NoOptions
from compressit.contract.kinds import Compressor, Dataset, Trainer, images_after
from compressit.datasets.options import DataConfig


class Options(Config):
    """Options of the plugins below."""

    sparsity: float = Field(default=0.5, description="a fraction")


class Other(Options):
    """More options."""

    more: int = Field(default=1, description="a number")


class Prune(Compressor[Options]):
    """Prune something.

    Not part of the summary.
    """

    name = "prune.something"


def test_the_config_class_comes_from_the_generic_argument() -> None:
    assert Prune.Config is Options
    assert Prune(Options(sparsity=0.2)).config.sparsity == 0.2


def test_without_an_argument_a_plugin_has_no_options_and_a_dataset_the_common_ones() -> None:
    assert type("T", (Trainer,), {}).Config is NoOptions
    assert type("D", (Dataset,), {}).Config is DataConfig


def test_a_subclass_keeps_or_replaces_its_parents_options() -> None:
    class Same(Prune):
        """Inherits."""

    class More(Prune):
        """Takes more."""

        Config = Other

    assert Same.Config is Options
    assert More.Config is Other


def test_the_summary_is_the_docstrings_first_line() -> None:
    assert Prune.summary() == "Prune something."
    assert type("Silent", (Prune,), {}).summary() == ""


def test_a_method_that_was_not_written_names_its_class() -> None:
    with pytest.raises(NotImplementedError, match=r"Prune\.compress"):
        Prune(Options()).compress(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "images"),
    [
        (DataConfig(), 1000),
        (DataConfig(limit=100), 100),
        (DataConfig(limit=5000), 1000),
        (DataConfig(limit=100, validation=0.1), 90),
        (DataConfig(validation=200), 800),
    ],
)
def test_images_after_limit_and_validation(options: DataConfig, images: int) -> None:
    assert images_after(options, 1000) == images
    assert images_after(options, None) is None
