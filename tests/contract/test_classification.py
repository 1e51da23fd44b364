"""The task of classes, against torch, closed forms and scikit-learn's documented numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional as F

from compressit.contract.classification import Classification, ClassificationConfig, usual
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError

torch.manual_seed(0)
OUTPUTS, LABELS = torch.randn(40, 5), torch.randint(5, (40,))


def task(classes: int = 5, **options: Any) -> Classification:
    return Classification(
        ClassificationConfig.model_validate(options), TaskSpec("task.classification", classes)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 3.0, 1.5)])
def test_what_is_minimised_is_torchs_cross_entropy_bit_for_bit(smoothing: float, weights: Any) -> None:
    ours = task(label_smoothing=smoothing, class_weights=weights).objective(LABELS)(OUTPUTS, LABELS)
    weight = None if weights is None else torch.tensor(weights)
    assert torch.equal(ours, F.cross_entropy(OUTPUTS, LABELS, weight, label_smoothing=smoothing))


def test_each_examples_loss_is_its_own_cross_entropy_with_the_smoothing() -> None:
    values = task(label_smoothing=0.2).loss(OUTPUTS, LABELS)
    for value, row, label in zip(values, OUTPUTS, LABELS, strict=True):
        log_p = row - row.exp().sum().log()
        torch.testing.assert_close(value, -(0.8 * log_p[label] + 0.2 * log_p.mean()))


def test_squared_errors_against_one_hot_labels() -> None:
    """Omnigrok's loss (Liu et al. 2023): `nn.MSELoss()(outputs, eye[labels])`."""
    outputs = OUTPUTS.double().requires_grad_()
    squared = task(loss="squared")
    loss = squared.objective(LABELS)(outputs, LABELS)
    loss.backward()
    errors = OUTPUTS.double() - torch.eye(5, dtype=torch.float64)[LABELS]
    assert loss.item() == pytest.approx(float((errors**2).sum()) / 200)
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad, 2 * errors / 200)
    torch.testing.assert_close(squared.loss(OUTPUTS.double(), LABELS), (errors**2).sum(1) / 5)
    assert squared.measuring().config.loss == "squared", "what is measured is what is minimised"
    for other in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        with pytest.raises(ValidationError, match="squared"):
            task(loss="squared", **other)


def test_balanced_weights_give_every_class_the_same_say() -> None:
    """N / (classes * count): what scikit-learn's `compute_class_weight("balanced")` documents."""
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = task(4, class_weights="balanced").weights(labels)
    assert weights.tolist() == pytest.approx([10 / 24, 10 / 12, 0, 10 / 4])
    loss = task(4, class_weights="balanced").objective(labels)
    outputs = torch.randn(10, 4, requires_grad=True)
    loss(outputs, labels).backward()
    assert outputs.grad is not None
    # for logits of zero, each class that is there pulls as hard as the others
    flat = torch.zeros(10, 4, requires_grad=True)
    loss(flat, labels).backward()
    assert flat.grad is not None
    pull = [float(-flat.grad[labels == c, c].sum()) for c in (0, 1, 3)]
    assert pull == pytest.approx([pull[0]] * 3)


def test_scikit_learns_example_of_macro_f1() -> None:
    """From the documentation of sklearn.metrics.f1_score."""
    wanted, given_ = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 2, 1, 0, 0, 1])
    scores = task(3).scores(F.one_hot(given_, 3).float(), wanted)
    assert scores["macro_f1"] == pytest.approx(0.26666666)
    assert scores["accuracy"] == pytest.approx(2 / 6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_scores_are_those_of_counting_by_hand(pairs: list[tuple[int, int]]) -> None:
    wanted, answered = (torch.tensor(side) for side in zip(*pairs, strict=True))
    scores = task(5, top_k=[2]).scores(F.one_hot(answered, 5).float(), wanted)
    f1 = []
    for c in range(5):
        hits = sum(w == a == c for w, a in pairs)
        mentions = sum(w == c for w, _ in pairs) + sum(a == c for _, a in pairs)
        f1 += [2 * hits / mentions] if mentions else []
    assert scores["macro_f1"] == pytest.approx(sum(f1) / len(f1))
    assert scores["accuracy"] == pytest.approx(sum(w == a for w, a in pairs) / len(pairs))
    assert scores["top2_accuracy"] >= scores["accuracy"]


def test_top_k_counts_the_right_class_among_the_largest() -> None:
    outputs = torch.tensor([[3.0, 2, 1, 0], [3, 2, 1, 0], [3, 2, 1, 0], [math.nan, 2, 1, 0]])
    scores = task(4, top_k=[2, 3]).scores(outputs, torch.tensor([0, 1, 2, 1]))
    assert (scores["accuracy"], scores["top2_accuracy"], scores["top3_accuracy"]) == (0.25, 0.5, 0.75)


def test_a_row_with_a_nan_is_wrong() -> None:
    scores = task(3).scores(torch.full((4, 3), math.nan), torch.tensor([0, 0, 1, 2]))
    assert scores == {"accuracy": 0.0, "macro_f1": 0.0}


def test_measuring_leaves_out_what_only_trainings_use() -> None:
    measuring = task(label_smoothing=0.1, class_weights="balanced", top_k=[3]).measuring()
    assert measuring.config == ClassificationConfig(top_k=(3,))
    assert measuring.posed.options["label_smoothing"] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [({"class_weights": [1, 2]}, "class_weights"), ({"top_k": [2, 5]}, "top_k"), ({}, None)],
)
def test_options_for_another_number_of_classes_are_told(options: dict[str, Any], told: str | None) -> None:
    assert set(task(5, **options).misfits()) == ({told} if told else set())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_whole_numbers_of_any_type_are_labels(dtype: torch.dtype) -> None:
    labels = task(3).targets(torch.tensor([0, 2, 1]).to(dtype))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([[0], [1]]), r"\(2, 1\)"),
        (torch.tensor([0, 3]), "labels from 0 to 3, and there are 3"),
        (torch.tensor([0, -1]), "labels from -1"),
        (torch.tensor([True, False]), "bool"),
    ],
)
def test_what_is_no_label_is_told(targets: torch.Tensor, told: str) -> None:
    with pytest.raises(CompressitError, match=told):
        task(3).targets(targets)


def test_a_task_does_what_it_derives_from() -> None:
    class Mine(Classification):
        name = "task.mine"

    assert Mine.does() == {"task.mine", "task.classification"}
    assert usual().does() == {"task.classification"}
