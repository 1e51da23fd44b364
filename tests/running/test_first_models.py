"""A run's first model is tried out before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BASE, Lab
from torch import Tensor, nn

from compressit.errors import CompressitError

RECIPE = BASE + "  prune: {uses: tiny.prune}\nevaluate: [tiny.accuracy, tiny.size]\n"


def _built(lab: Lab, monkeypatch: pytest.MonkeyPatch, build: Callable[[int, int], nn.Module]) -> None:
    """Lets `tiny.mlp` build that net, of (inputs, classes)."""
    model: Any = lab.host.find("tiny.mlp").plugin
    monkeypatch.setattr(
        model, "build", lambda self, inputs, outputs: build(torch.Size(inputs.shape).numel(), outputs)
    )


class Net(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(inputs, 12), nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x.flatten(1)).relu())


class Keeps(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.features = [self.a(x.flatten(1)).relu()]
        return self.head(self.features[0])


class Makes(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.register_buffer("last", x.detach().mean((0,)))
        return super().forward(x)


class Generates(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.a.rest = iter(x)  # type: ignore[assignment]
        self.a.rest = (row for row in x)  # type: ignore[assignment]
        return super().forward(x)


def _lazy(inputs: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def _half(inputs: int, classes: int) -> nn.Module:
    return Net(inputs, classes).half()


class Answers(Net):
    """Answers in another form than (N, classes)."""

    def __init__(self, inputs: int, classes: int, form: Callable[[Tensor], Any]) -> None:
        super().__init__(inputs, classes)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if self.training else self.form(super().forward(x))


def _norm(inputs: int, classes: int) -> nn.Module:
    norm = nn.BatchNorm1d(12, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 12), norm, nn.Linear(12, classes))


def _nan(inputs: int, classes: int) -> nn.Module:
    net = Net(inputs, classes)
    net.a.bias.data[3] = float("nan")
    return net


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda y: (y, y), r"not one tensor: tuple of 2"),
        (lambda y: {"logits": y}, "not one tensor: dict of logits"),
        (lambda y: y.mean(), r"shape \(\) for 2 inputs"),
        (lambda y: y.squeeze(), r"shape \(3,\) for 1 input\n.*squeeze"),
        (lambda y: y.T, r"shape \(3, 2\) for 2 inputs"),
        (lambda y: y[:1], r"shape \(1, 3\) for 2 inputs"),
        (lambda y: y[:, :2], r"shape \(2, 2\), but labels go up to 2"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 3), "type torch.int64"),
        (lambda y: y * 1j, "type torch.complex64"),
        (lambda y: y.to_sparse(), "torch.sparse_coo"),
        (lambda y: y * float("inf"), "untrained net outputs .*: its tensors are finite"),
        (lambda y: y.view(2, 3), r"does not run in eval mode on inputs of shape \(1, "),
    ],
)
def test_what_gives_no_logits_is_refused_in_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[Tensor], Any], words: str
) -> None:
    lab = Lab(tmp_path)
    _built(lab, monkeypatch, lambda inputs, classes: Answers(inputs, classes, form))
    plan = lab.plan(RECIPE)
    with pytest.raises(CompressitError, match=words):
        lab.run(plan)
    assert not any(lab.store.find(key) for key in plan.jobs)


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_what_is_wrapped_or_keeps_results_goes_through_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    lab, plain = Lab(tmp_path / "lab"), Lab(tmp_path / "plain")
    _built(lab, monkeypatch, lambda inputs, classes: wrap(Keeps(inputs, classes)))
    found = lab.run(lab.plan(RECIPE))
    tensors = lab.model(lab.plan(RECIPE), "base/seed0/prune")
    _built(plain, monkeypatch, Net)
    expected = plain.run(plain.plan(RECIPE))
    other = plain.model(plain.plan(RECIPE), "base/seed0/prune")
    assert tensors.keys() == other.keys()
    assert all(torch.equal(tensors[name], other[name]) for name in tensors)
    assert {label: a.metrics for label, a in found.items()} == {
        label: a.metrics for label, a in expected.items()
    }


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Makes, r"a forward pass changes the net's tensors: 'last' goes from nothing"),
        (Generates, r"it keeps 'a\.rest', a generator"),
        (_lazy, r"'1\.weight' has no shape yet"),
        (_norm, r"does not run in eval mode on inputs of shape \(1, .*: in '2' \(BatchNorm1d\)"),
        (_nan, r"outputs nan for .*: 'a\.bias' holds nan"),
        (_half, r"weights are torch\.float16 \('a\.weight'\), but its inputs are torch\.float32"),
    ],
)
def test_what_could_not_be_saved_in_the_end_is_refused_in_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[[int, int], nn.Module], words: str
) -> None:
    lab = Lab(tmp_path)
    _built(lab, monkeypatch, build)
    plan = lab.plan(RECIPE)
    with pytest.raises(CompressitError, match=words):
        lab.run(plan)
    assert not any(lab.store.find(key) for key in plan.jobs), "not even the first model is there"
