"""The task of numbers, against closed forms and scikit-learn's documented example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from compressit.contract.measure import r2
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit_plugins.tasks.regression import Regression, RegressionConfig

torch.manual_seed(0)
OUTPUTS, TARGETS = torch.randn(30, 3), torch.randn(30, 3)


def task(outputs: int = 3, **options: Any) -> Regression:
    return Regression(RegressionConfig.model_validate(options), TaskSpec("task.regression", outputs))


@pytest.mark.parametrize(
    ("kind", "theirs"), [("squared", F.mse_loss), ("absolute", F.l1_loss), ("huber", F.huber_loss)]
)
def test_what_is_minimised_is_torchs(kind: str, theirs: Any) -> None:
    ours = task(loss=kind).objective(TARGETS)(OUTPUTS, TARGETS)
    torch.testing.assert_close(ours, theirs(OUTPUTS, TARGETS))


def test_scikit_learns_example_of_r2() -> None:
    """From the documentation of sklearn.metrics.r2_score and mean_squared_error, of several outputs."""
    wanted = torch.tensor([[0.5, 1], [-1, 1], [7, -6]])
    given = torch.tensor([[0.0, 2], [-1, 2], [8, -5]])
    scores = task(2).scores(given, wanted)
    assert r2(given, wanted) == pytest.approx((0.965 + 0.908) / 2, abs=1e-3)
    assert scores["rmse"] ** 2 == pytest.approx(0.708, abs=1e-3)
    assert scores["mae"] == pytest.approx(0.75)


def test_r2_of_a_least_squares_line_is_the_squared_correlation() -> None:
    x, y = TARGETS[:, 0], TARGETS[:, 1]
    line = stats.linregress(x.numpy(), y.numpy())
    fitted = (line.slope * x + line.intercept)[:, None]
    assert r2(fitted, y[:, None]) == pytest.approx(line.rvalue**2, rel=1e-5)


def test_of_a_value_that_never_changes_r2_is_all_or_nothing() -> None:
    same = torch.ones(4, 1)
    assert (r2(same, same), r2(same + 1, same)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("given", "outputs", "told"),
    [
        (torch.zeros(5, 2), 3, r"numbers \(N, 3\)"),
        (torch.zeros(5), 3, r"numbers \(N, 3\)"),
        (torch.tensor([1.0, float("nan")]), 1, "targets of 1 example are not finite"),
        (torch.zeros(2, 1, dtype=torch.complex64), 1, "complex64"),
    ],
)
def test_what_are_no_numbers_of_this_task_is_told(given: torch.Tensor, outputs: int, told: str) -> None:
    with pytest.raises(CompressitError, match=told):
        task(outputs).targets(given)


def test_numbers_of_any_type_become_columns_of_float32() -> None:
    for given in (
        torch.tensor([3, 1]),
        torch.tensor([3.0, 1.0], dtype=torch.float64),
        torch.tensor([[3], [1]]),
    ):
        targets = task(1).targets(given)
        assert targets.dtype == torch.float32
        assert targets.tolist() == [[3.0], [1.0]]


@pytest.mark.parametrize("outputs", [torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 1, 1)])
def test_outputs_of_another_shape_are_refused_and_never_spread_over_the_targets(
    outputs: torch.Tensor,
) -> None:
    with pytest.raises(CompressitError, match="outputs of shape"):
        task(1).loss(outputs, torch.zeros(4, 1))
