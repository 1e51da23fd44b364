from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from scipy.special import log_softmax

from compressit_plugins.evaluate.accuracy import Accuracy, accuracy_and_loss


def test_numbers_agree_with_scipy_and_train_means_the_given_labels(lab: Lab, device: str) -> None:
    data = lab.data(device, labels="random", validation=0.25)
    model = lab.mlp().to(device)
    values = Accuracy(Accuracy.Config()).evaluate(model, lab.context(data=data, device=device))
    assert set(values) == set(Accuracy.metrics)
    for split in ("train", "validation", "test"):
        part = getattr(data, split)
        with torch.no_grad():
            logits = model(part.x).double().cpu().numpy()
        y = part.y.cpu().numpy()
        assert values[f"{split}_accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
        expected = -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()
        assert values[f"{split}_loss"] == pytest.approx(expected, rel=1e-5)


def test_no_validation_split_no_validation_numbers(lab: Lab) -> None:
    values = Accuracy(Accuracy.Config()).evaluate(lab.mlp(), lab.context(data=lab.data()))
    assert not [name for name in values if name.startswith("validation")]


def test_a_net_that_answers_nan_is_never_right() -> None:
    accuracy, loss = accuracy_and_loss(torch.full((4, 3), math.nan), torch.tensor([0, 0, 1, 2]))
    assert accuracy == 0
    assert math.isnan(loss)
