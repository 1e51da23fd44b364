from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.fit_options import ScheduleConfig
from compressit.contract.fit_steps import learning_rate_factor


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
        (ScheduleConfig(name="cosine", warmup=4), 1.0, 0.375),
        (ScheduleConfig(name="constant", warmup=4), 0.0, 0.125),
        (ScheduleConfig(name="constant", warmup=4), 2.0, 0.625),
        (ScheduleConfig(name="constant", warmup=4), 3.5, 1.0),
        (ScheduleConfig(name="constant", warmup=0.25), 0.0, 1.0),
        (ScheduleConfig(name="constant", warmup=4), 4.0, 1.0),
    ],
)
def test_learning_rate_factor_at_known_points(
    options: ScheduleConfig, progress: float, factor: float
) -> None:
    assert learning_rate_factor(options, progress, 10, 0.5) == pytest.approx(factor, abs=1e-7)


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(1, 1, 0.5), (1, 2, 0.9), (3, 1, 2.0), (4, 5, 1.3)])
def test_a_warm_up_is_torchs_from_its_first_steps_share(epochs: int, steps: int, warmup: float) -> None:
    """torch's LinearLR from 1/n over n - 1 steps, where the warm-up has a whole number n of them; no step is lost."""
    ours = [
        learning_rate_factor(ScheduleConfig(warmup=warmup), i / steps, epochs, 1 / steps)
        for i in range(epochs * steps)
    ]
    assert min(ours) > 0
    assert ours[-1] == 1
    if (n := round(warmup * steps, 9)) == int(n) > 1:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / int(n), total_iters=int(n) - 1)
        for factor in ours:
            assert factor == pytest.approx(theirs.get_last_lr()[0])
            optimizer.step()
            theirs.step()


@given(
    st.sampled_from(["constant", "cosine", "linear"]), st.floats(0, 12), st.integers(1, 10), st.floats(0, 1)
)
def test_learning_rate_factor_is_never_negative_or_above_one(
    name: Any, warmup: float, epochs: int, part: float
) -> None:
    factor = learning_rate_factor(ScheduleConfig(name=name, warmup=warmup), part * epochs, epochs, 0.1)
    assert -1e-7 <= factor <= 1 + 1e-7
