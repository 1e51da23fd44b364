from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressit.exporting.observed import Observed, observed

pytestmark = pytest.mark.extra("onnx")


def test_ranges_means_and_percentiles_are_numpys_of_all_batches_together() -> None:
    from compressit.datasets.specs import TensorSpec
    from compressit.exporting.onnxnet import OnnxNet, session

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()).eval()
    x = torch.randn(700, 2, 5, 5)
    model: Any = importlib.import_module("onnx").load_from_string(
        OnnxNet.of(net, TensorSpec((2, 5, 5))).content
    )
    seen = observed(model, session, lambda: [{"input": part.numpy()} for part in x.split(300)])
    with torch.no_grad():
        y = net(x).numpy()
    for name, values in {"input": x.numpy(), "output": y}.items():
        assert seen[name].low == pytest.approx(min(values.min(), 0), abs=1e-6)
        assert seen[name].high == pytest.approx(values.max(), abs=1e-5)
        assert seen[name].mean == pytest.approx(values.mean((0, 2, 3)), abs=1e-6)
        low, high = np.percentile(values, [2.5, 97.5])
        step = (seen[name].high - seen[name].low) / 1000
        assert seen[name].span(95) == pytest.approx((min(low, 0), high), abs=step + 0.02)


def test_all_of_the_range_is_itself_and_zero_stays_in_every_range() -> None:
    counts = np.zeros(2048)
    counts[1500:] = 1
    one = Observed(-1.0, 3.0, np.zeros(1), counts)
    assert one.span(100) == (-1.0, 3.0)
    low, high = one.span(90)
    assert low == 0.0
    assert 2.8 < high < 3.0
