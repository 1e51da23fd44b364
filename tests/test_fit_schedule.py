from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.fit import learning_rate_factor
from compressit.fit_options import ScheduleConfig


@pytest.mark.parametrize(
    ("options", "progress", "factor"),
    [
        (ScheduleConfig(), 7.3, 1.0),
        (ScheduleConfig(name="cosine"), 0.0, 1.0),
        (ScheduleConfig(name="cosine"), 2.5, 0.5 * (1 + math.sqrt(0.5))),
        (ScheduleConfig(name="cosine"), 5.0, 0.5),
        (ScheduleConfig(name="cosine"), 10.0, 0.0),
        (ScheduleConfig(name="linear"), 2.5, 0.75),
        (ScheduleConfig(name="linear", warmup=2), 6.0, 0.5),
        (ScheduleConfig(name="step", milestones=(3, 6), gamma=0.5), 2.99, 1.0),
        (ScheduleConfig(name="step", milestones=(3, 6), gamma=0.5), 3.0, 0.5),
        (ScheduleConfig(name="step", milestones=(6, 3), gamma=0.5), 9.0, 0.25),
        (ScheduleConfig(name="cosine", warmup=4), 1.0, 0.25),
        (ScheduleConfig(name="constant", warmup=4), 2.0, 0.5),
        (ScheduleConfig(name="constant", warmup=4), 4.0, 1.0),
    ],
)
def test_learning_rate_factor_at_known_points(
    options: ScheduleConfig, progress: float, factor: float
) -> None:
    assert learning_rate_factor(options, progress, 10) == pytest.approx(factor, abs=1e-7)


@given(
    st.sampled_from(["constant", "cosine", "linear"]), st.floats(0, 12), st.integers(1, 10), st.floats(0, 1)
)
def test_learning_rate_factor_is_never_negative_or_above_one(
    name: Any, warmup: float, epochs: int, part: float
) -> None:
    factor = learning_rate_factor(ScheduleConfig(name=name, warmup=warmup), part * epochs, epochs)
    assert -1e-7 <= factor <= 1 + 1e-7
