"""The task of pixels, against torch and counting by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit_plugins.tasks.segmentation import Segmentation, SegmentationConfig

torch.manual_seed(0)
OUTPUTS, LABELS = torch.randn(6, 4, 3, 5), torch.randint(4, (6, 3, 5))
HOLED = LABELS.masked_fill(torch.rand(LABELS.shape) < 0.3, 255)


def task(classes: int = 4, **options: Any) -> Segmentation:
    return Segmentation(SegmentationConfig.model_validate(options), TaskSpec("task.segmentation", classes))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 3.0)])
def test_what_is_minimised_is_torchs_over_the_pixels_that_count(smoothing: float, weights: Any) -> None:
    options = {"label_smoothing": smoothing, "class_weights": weights, "ignore_index": 255}
    ours = task(**options).objective(HOLED)(OUTPUTS, HOLED)
    weight = None if weights is None else torch.tensor(weights)
    theirs = F.cross_entropy(OUTPUTS, HOLED, weight, ignore_index=255, label_smoothing=smoothing)
    assert torch.equal(ours, theirs)


def test_an_examples_loss_is_the_mean_of_its_own_pixels_that_count() -> None:
    holed = HOLED.clone()
    holed[5] = 255
    values = task(ignore_index=255).loss(OUTPUTS, holed)
    for value, output, label in zip(values[:5], OUTPUTS, holed, strict=False):
        counting = label != 255
        torch.testing.assert_close(value, F.cross_entropy(output[:, counting].T, label[counting]))
    assert values[5] == 0, "no pixel of it counts"


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_the_distance_is_the_mean_over_the_pixels(t: float) -> None:
    taught = torch.randn(6, 4, 3, 5)
    rows, theirs = (z.movedim(1, -1).reshape(-1, 4) / t for z in (OUTPUTS, taught))
    expected = F.kl_div(rows.log_softmax(1), theirs.softmax(1), reduction="batchmean") * t * t
    torch.testing.assert_close(task().distance(OUTPUTS, taught, "kl", t), expected)


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_scores_are_those_of_counting_by_hand(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    wanted, answered = (torch.randint(3, (2, 3, 3), generator=draws) for _ in range(2))
    wanted[torch.rand(wanted.shape, generator=draws) < 0.2] = 9
    scores = task(ignore_index=9).scores(F.one_hot(answered, 4).movedim(-1, 1).float(), wanted)
    pairs = [
        (w, a) for w, a in zip(wanted.flatten().tolist(), answered.flatten().tolist(), strict=True) if w != 9
    ]
    overlaps = []
    for c in range(4):
        union = sum(c in pair for pair in pairs)
        overlaps += [sum(w == a == c for w, a in pairs) / union] if union else []
    assert scores["miou"] == pytest.approx(sum(overlaps) / len(overlaps))
    assert scores["pixel_accuracy"] == pytest.approx(sum(w == a for w, a in pairs) / len(pairs))


def test_where_no_pixel_counts_nothing_is_measured() -> None:
    assert task(ignore_index=255).scores(OUTPUTS, torch.full_like(LABELS, 255)) == {}


def test_maps_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(CompressitError, match=r"\(3, 5\), and targets are \(6, 10\)"):
        task().objective(LABELS)(OUTPUTS, torch.zeros(6, 6, 10).long())
    with pytest.raises(CompressitError, match=r"outputs of shape \(6, 4\)"):
        task().loss(OUTPUTS[:, :, 0, 0], LABELS)


def test_a_label_that_is_no_class_must_be_ignored() -> None:
    with pytest.raises(CompressitError, match=r"labels from 0 to 255, and there are 4(.|\n)*ignore_index"):
        task().targets(HOLED)
    assert torch.equal(task(ignore_index=255).targets(HOLED.to(torch.uint8)), HOLED)
    assert set(task(ignore_index=3).misfits()) == {"ignore_index"}


def test_two_models_agree_pixel_by_pixel() -> None:
    other = OUTPUTS.clone()
    other[0] = -other[0]
    expected = float((OUTPUTS.argmax(1) == other.argmax(1)).double().mean())
    assert task().agreement(OUTPUTS, other) == pytest.approx(expected)


def test_a_batch_of_which_no_pixel_counts_changes_nothing() -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    value = task(ignore_index=255).objective(HOLED)(outputs, torch.full_like(LABELS, 255))
    value.backward()
    assert value == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()
