"""examples/chapter20/09_goldilocks.yaml: the Hessian in random planes at many lengths of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_each_temperature_has_its_curves_and_the_start_lies_at_the_glorot_length(quick: Quick) -> None:
    settings = ("data.uses=data.synthetic", "data.with.limit=100", "stages.train.with.epochs=2")
    init, train = quick("chapter20/09_goldilocks", *settings, "model.with.hidden=[12]")
    assert (init.stage, train.stage) == ("init", "train")
    assert init.metrics["goldilocks_radius"] == pytest.approx(1, abs=0.1)
    assert train.metrics["goldilocks_radius"] != init.metrics["goldilocks_radius"]
    scales = [
        np.array(init.curves[f"{which}goldilocks_logit_scale_at"])[:, 1] for which in ("cold_", "", "hot_")
    ]
    np.testing.assert_allclose(scales[0], 100 * scales[2], rtol=1e-4)
    assert (np.diff(scales[1]) > 0).all()
    assert "hot_goldilocks_positive_at" not in train.curves
