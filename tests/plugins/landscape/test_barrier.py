from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn

from compressit import CompressitError, StageContext
from compressit.contract.context import Progress
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import Data
from compressit.datasets.task_spec import TaskSpec
from compressit_plugins.landscape.barrier import Barrier, BarrierConfig
from compressit_plugins.landscape.span import Span, weights_of
from compressit_plugins.tasks.regression import Regression, RegressionConfig

INPUTS = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 4.0]])


def _regression(targets: Tensor) -> Data:
    """INPUTS with one number each, as training and test split."""
    part, spec = (INPUTS, targets[:, None]), TensorSpec((2,), low=None, high=None)
    return prepare(Sources(part, part), DataConfig(), 1, (), labelled=False, inputs=spec)


def _context(lab: Lab, targets: Tensor, other: nn.Module, **fields: Any) -> StageContext:
    task = Regression(RegressionConfig(), TaskSpec("task.regression", 1))
    return lab.context({"other": other}, _regression(targets), task=task, **fields)


def _measured(model: nn.Module, ctx: StageContext, **options: Any) -> dict[str, float]:
    return dict(Barrier(BarrierConfig(other="other", **options)).evaluate(model, ctx))


def _linear(*weights: float) -> nn.Module:
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = torch.tensor([weights])
    return net


def test_a_linear_model_has_a_parabola_without_a_barrier(lab: Lab) -> None:
    targets = torch.tensor([1.0, -2.0, 0.5])
    ends = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    ctx = _context(lab, targets, _linear(*ends[1].tolist()))
    found = _measured(_linear(*ends[0].tolist()), ctx, points=5)
    errors = [INPUTS @ end - targets for end in ends]
    parabola = [float(((1 - t) * errors[0] + t * errors[1]).pow(2).mean()) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert [x for x, _ in ctx.curves["barrier_loss"]] == [0, 0.25, 0.5, 0.75, 1]
    for name in ("barrier_loss", "barrier_test_loss"):
        assert [y for _, y in ctx.curves[name]] == pytest.approx(parabola, rel=1e-5)
    mean = (parabola[0] + parabola[-1]) / 2
    assert found["barrier"] == pytest.approx(max(parabola) - mean, rel=1e-5)
    assert found["barrier_ratio"] == pytest.approx(max(parabola) / mean, rel=1e-5)
    rmse = [value**0.5 for value in parabola]
    assert found["barrier_drop"] == pytest.approx(max(rmse) - (rmse[0] + rmse[-1]) / 2, rel=1e-4)


class _Units(nn.Module):
    """relu(a · x) + relu(b · x), with all weights trained."""

    def __init__(self, first: list[list[float]]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.first.weight.data, self.last.weight.data = torch.tensor(first), torch.ones(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def test_the_same_net_with_its_units_exchanged_has_the_barrier_worked_out_by_hand(lab: Lab) -> None:
    """Halfway both units are the mean, so of x = (x1, x2) the net makes 2 relu((x1 + x2) / 2) = relu(x1 + x2)."""
    net, exchanged = _Units([[1.0, 0.0], [0.0, 1.0]]), _Units([[0.0, 1.0], [1.0, 0.0]])
    truth = torch.relu(INPUTS).sum(1) + 1  # both nets are wrong by 1 everywhere
    halfway = torch.relu(INPUTS.sum(1)) - truth
    ctx = _context(lab, truth, exchanged)
    found = _measured(net, ctx, points=3)
    assert found["barrier"] == pytest.approx(float(halfway.pow(2).mean()) - 1, rel=1e-5)
    assert found["barrier_ratio"] == pytest.approx(float(halfway.pow(2).mean()), rel=1e-5)
    assert _measured(net, _context(lab, truth, copy.deepcopy(net)), points=3)["barrier"] == pytest.approx(0)
    perfect = _context(lab, truth - 1, exchanged)
    assert _measured(net, perfect, points=3).keys() == {"barrier", "barrier_drop"}, "ends without loss"


def test_nothing_is_measured_where_no_line_is(lab: Lab) -> None:
    other = lab.mlp(8)
    ctx = lab.context({"other": other}, lab.data(train=40))
    assert _measured(lab.mlp(16), ctx) == {}
    assert not ctx.curves
    hooked = lab.mlp(16)
    hooked.register_forward_pre_hook(lambda module, inputs: inputs)
    with pytest.raises(CompressitError, match="scale their inputs"):
        _measured(lab.mlp(16), lab.context({"other": hooked}, lab.data(train=40)))


class _Normed(nn.Module):
    """One number x, a scale for it, a batch norm that undoes any scale."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.norm = nn.Parameter(torch.tensor([[scale]])), nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x[:, :1] @ self.scale)


def test_batch_norms_get_statistics_of_their_own_everywhere_on_the_line(lab: Lab) -> None:
    ctx = _context(lab, torch.zeros(3), _Normed(100.0))
    net = _Normed(1.0)
    before = copy.deepcopy(net.state_dict())
    _measured(net, ctx, points=4)
    spread = INPUTS[:, 0].var(unbiased=False) / INPUTS[:, 0].var()  # running variances are unbiased
    assert [y for _, y in ctx.curves["barrier_loss"]] == pytest.approx([float(spread)] * 4, rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class _Killed(Exception):
    pass


class _StopsOnce(Progress):
    """Kills the measurement after three points, the first time."""

    def __init__(self) -> None:
        self.saved: Any = None
        self.killed = False

    def load(self) -> Any:
        return self.saved

    def due(self) -> bool:
        return True

    def save(self, tensors: Any, facts: Any) -> None:
        self.saved = ({name: value.clone() for name, value in tensors.items()}, dict(facts))
        if len(tensors["walked"]) == 3 and not self.killed:
            self.killed = True
            raise _Killed


def test_a_killed_measurement_goes_on_with_the_same_numbers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, other, data = lab.mlp(), lab.mlp(seed=1), lab.data(train=40)
    whole = lab.context({"other": other}, data)
    expected = _measured(net, whole, points=7)
    progress = _StopsOnce()
    with pytest.raises(_Killed):
        _measured(net, lab.context({"other": other}, data, progress=progress), points=7)
    seen = list[Any]()
    at = Span.at
    monkeypatch.setattr(Span, "at", lambda span, place: seen.append(place) or at(span, place))
    again = lab.context({"other": other}, data, progress=progress)
    assert _measured(net, again, points=7) == expected
    assert again.curves == whole.curves
    assert len(seen) == 4, "three points were done"


def test_the_ends_of_a_span_are_the_nets_themselves(lab: Lab) -> None:
    net, other = lab.mlp(), lab.mlp(seed=1)
    span = Span.of(net, weights_of(net), weights_of(other))
    for place, end in (((1.0, 0.0), net), ((0.0, 1.0), other)):
        assert all(map(torch.equal, span.at(place).parameters(), end.parameters()))
