from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import Tensor, nn

import compressit
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit_plugins.evaluate.sensitivity import Sensitivity, SensitivityConfig

COUNTS = (10, 20, 30, 40)  # examples of each class, in percent; class 4 has none


class Known(nn.Module):
    """Answers one-hot inputs (4) rightly. Each channel of `vital` carries one class, `spare` has 12 that carry nothing.

    Without its channel, an example is taken for class 4. The first channels of `vital` have the smallest weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vital, self.spare, self.head = nn.Linear(4, 4), nn.Linear(4, 16), nn.Linear(16, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.vital.weight.copy_(torch.diag(torch.tensor([1.0, 1.1, 1.2, 1.3])))
            self.spare.weight[:4] = torch.eye(4)
            self.head.weight[:4, :4] = torch.eye(4)
            self.head.bias[4] = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.spare(torch.relu(self.vital(x)))))


def _data(validation: bool = False) -> Data:
    y = torch.tensor([label for label, count in enumerate(COUNTS) for _ in range(count)])
    train = (torch.eye(4)[y], y)
    shown = (torch.eye(4)[:1], torch.zeros(1, dtype=torch.long))  # only class 0
    sources = Sources(train, shown, shown if validation else None)
    return prepare(sources, DataConfig(), 5, tuple("abcde"), inputs=TensorSpec((4,)))


def _measured(lab: Lab, model: nn.Module, data: Data, **options: Any) -> tuple[dict[str, list[float]], Any]:
    """The scores by layer, and the context."""
    ctx = lab.context(data=data)
    ctx.measured = Sensitivity(SensitivityConfig(**options)).evaluate(model, ctx)
    names = [bytes(row).rstrip(b"\0").decode() for row in ctx.arrays["sensitivity_layers"]]
    rounded = ctx.arrays["sensitivity"].round(6).tolist()
    return dict(zip(names, rounded, strict=True)), ctx


def test_channels_that_carry_nothing_cost_nothing_and_each_vital_one_costs_its_class(lab: Lab) -> None:
    model = Known()
    before = copy.deepcopy(model.state_dict())
    found, ctx = _measured(lab, model, _data())
    assert found == {"vital": [1, 0.9, 0.7, 0.4], "spare": [1, 1, 1, 1]}
    assert ctx.curves["sensitivity_worst"] == [(0, 1), (0.25, 0.9), (0.5, pytest.approx(0.7)), (0.75, 0.4)]
    assert [y for _, y in ctx.curves["sensitivity_mean"]] == pytest.approx([1, 0.95, 0.85, 0.7])
    assert ctx.measured["sensitivity_drop"] == pytest.approx((0.1 + 0.3 + 0.6) / 6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_are_zeroed_smallest_first_and_come_back(lab: Lab) -> None:
    model = Known()
    before = copy.deepcopy(model.state_dict())
    found, _ = _measured(lab, model, _data(), of="weights", ratios=(0.75, 0.875), ignore=("head",))
    assert found == {
        "vital.weight": [1, 1, 0.7],
        "spare.weight": [1, 1, 1],
    }  # 14 of 16 go: two of the diagonal
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_validation_split_is_judged_where_there_is_one(lab: Lab) -> None:
    found, _ = _measured(lab, Known(), _data(validation=True), ratios=(0.25,), ignore=("spare",))
    assert found == {"vital": [1, 0]}  # the split has the first class only, whose channel goes first


def test_it_gives_a_picture_and_arrays_from_python_too() -> None:
    found = compressit.evaluate(Known(), _data(), "eval.sensitivity")
    assert found.pictures["sensitivity_picture"].startswith(b"\x89PNG")
    assert found.arrays["sensitivity"].shape == (2, 4)
    assert found.arrays["sensitivity_layers"].dtype == np.uint8


def test_fractions_must_ascend_and_a_net_without_a_hidden_layer_is_refused(lab: Lab) -> None:
    with pytest.raises(ValidationError, match="ascend"):
        SensitivityConfig(ratios=(0.5, 0.25))
    with pytest.raises(CompressitError, match="no width that can be pruned"):
        _measured(lab, nn.Sequential(nn.Linear(4, 5)), _data())
