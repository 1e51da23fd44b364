"""The task of several labels, against torch, counting by hand and scikit-learn's documented example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit_plugins.tasks.multilabel import Multilabel, MultilabelConfig

torch.manual_seed(0)
OUTPUTS, TARGETS = torch.randn(30, 3), torch.randint(2, (30, 3)).float()


def task(labels: int = 3, **options: Any) -> Multilabel:
    return Multilabel(MultilabelConfig.model_validate(options), TaskSpec("task.multilabel", labels))


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5)])
def test_what_is_minimised_is_torchs(weights: Any) -> None:
    ours = task(positive_weights=weights).objective(TARGETS)(OUTPUTS, TARGETS)
    weight = None if weights is None else torch.tensor(weights)
    torch.testing.assert_close(ours, F.binary_cross_entropy_with_logits(OUTPUTS, TARGETS, pos_weight=weight))


def test_balanced_weights_give_set_and_unset_labels_the_same_say() -> None:
    targets = torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 0]])
    loss = task(2, positive_weights="balanced").objective(targets)
    outputs = torch.zeros(4, 2, requires_grad=True)
    loss(outputs, targets).backward()
    assert outputs.grad is not None
    assert float(outputs.grad[:, 0].sum()) == pytest.approx(0, abs=1e-7)
    assert float(outputs.grad[:, 1].sum()) > 0


def test_a_label_that_every_example_has_is_still_learnt() -> None:
    targets = torch.tensor([[1.0, 0], [1, 1]])
    outputs = torch.zeros(2, 2, requires_grad=True)
    task(2, positive_weights="balanced").objective(targets)(outputs, targets).backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, 0] < 0).all(), "towards the label"


@pytest.mark.parametrize("t", [1.0, 3.0])
def test_the_distance_is_that_of_two_coins(t: float) -> None:
    """Against torch.distributions' divergence of Bernoullis."""
    taught = torch.randn(30, 3)
    coins = (torch.distributions.Bernoulli(logits=z / t) for z in (taught, OUTPUTS))
    expected = torch.distributions.kl_divergence(*coins).mean() * t * t
    torch.testing.assert_close(task().distance(OUTPUTS, taught, "kl", t), expected)


def test_scikit_learns_example_of_f1_for_several_labels() -> None:
    """From the documentation of sklearn.metrics.f1_score: of labels 0.67, 1 and 0.67."""
    wanted = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 1, 1]])
    given = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 1, 0]])
    scores = task().scores(given * 2.0 - 1, wanted)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert scores["label_accuracy"] == pytest.approx(7 / 9)
    assert scores["exact"] == pytest.approx(2 / 3)


def test_a_label_never_set_and_never_answered_has_no_f1() -> None:
    assert task(1).scores(-torch.ones(3, 1), torch.zeros(3, 1))["macro_f1"] == 0.0


@pytest.mark.parametrize(
    ("given", "told"), [(torch.full((4, 3), 2), "from 2 to 2"), (torch.zeros(4, 2), "N, 3")]
)
def test_what_is_no_set_of_labels_is_told(given: torch.Tensor, told: str) -> None:
    with pytest.raises(CompressitError, match=told):
        task().targets(given)


def test_weights_for_another_number_of_labels_are_told() -> None:
    assert set(task(positive_weights=[1, 2]).misfits()) == {"positive_weights"}
    assert not task(positive_weights=[1, 2, 3]).misfits()


def test_two_models_agree_where_they_answer_the_same() -> None:
    other = OUTPUTS.clone()
    other[0] = -other[0]
    other[1, 0] = torch.nan
    assert task().agreement(OUTPUTS, OUTPUTS) == 1.0
    assert task().agreement(OUTPUTS, other) == pytest.approx((90 - 3 - 1) / 90)
