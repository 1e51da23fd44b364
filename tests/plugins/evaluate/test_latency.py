from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import Tensor, nn

from compressit.config import parse
from compressit.contract.classification import usual
from compressit.contract.compute import Compute
from compressit.errors import CompressitError
from compressit_plugins.evaluate import latency, runtimes
from compressit_plugins.evaluate.latency import Latency, LatencyConfig


class Recording(nn.Module):
    """Remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.devices: set[str] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        self.devices.add(x.device.type)
        return x


def test_every_size_is_warmed_up_and_repeated_and_every_number_declared(lab: Lab, device: str) -> None:
    model = Recording().eval()
    config = LatencyConfig(batch_sizes=(1, 128), warmup=3, repetitions=5)
    values = Latency(config).evaluate(model, lab.context(device=device))
    assert model.devices == {device}
    assert model.shapes == [(1, 2, 3, 3)] * 8 + [(128, 2, 3, 3)] * 8
    assert set(values) == set(Latency(config).declares(usual()))
    assert values["latency_repetitions"] == 5
    for size in (1, 128):
        assert values[f"latency_{size}_median_seconds"] > 0
        assert values[f"latency_{size}_iqr_seconds"] >= 0


def test_the_clock_does_not_run_while_warming_up() -> None:
    model = Recording()
    assert len(latency.forward_seconds(model, torch.zeros(1), Compute(), warmup=3, repetitions=5)) == 5
    assert len(model.shapes) == 8


def test_median_and_quartiles_are_numpys(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.5, 0.1, 0.9, 0.2, 0.3, 8.0]
    monkeypatch.setattr(runtimes, "in_turn", lambda *arguments: [seconds])
    values = Latency(LatencyConfig(batch_sizes=(32,))).evaluate(nn.Identity(), lab.context())
    lower, median, upper = np.percentile(seconds, [25, 50, 75])
    assert values["latency_32_median_seconds"] == pytest.approx(median)
    assert values["latency_32_iqr_seconds"] == pytest.approx(upper - lower)


def test_runtimes_take_turns_and_none_is_timed_while_warming_up(lab: Lab) -> None:
    calls: list[str] = []
    ready = [lambda name=name: calls.append(name) for name in "ab"]
    found = runtimes.in_turn(ready, lab.context(), warmup=1, repetitions=4)
    assert calls == ["a", "b"] * 5
    assert [len(seconds) for seconds in found] == [4, 4]


@pytest.mark.extra("onnx")
def test_onnxruntime_is_timed_with_and_without_int8_on_the_same_inputs(lab: Lab) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    runtime = ("onnxruntime-int8", "eager", "onnxruntime")
    evaluator = Latency(LatencyConfig(batch_sizes=(1,), runtime=runtime, images=4, warmup=1, repetitions=4))
    ctx = lab.context()
    values = evaluator.evaluate(model, ctx)
    assert list(values) == [
        "latency_repetitions",
        *(n for n in evaluator.declares(usual()) if "latency_1" in n),
    ]
    assert next(iter(evaluator.declares(usual()))) == "latency_1_onnxruntime_int8_median_seconds"
    x = ctx.data.train.some(4)
    with torch.no_grad():
        wanted = model(x)
    assert torch.allclose(runtimes.onnx_of(model, ctx)(x)[0], wanted, atol=1e-5)
    assert torch.allclose(runtimes.int8_of(model, ctx, 4)(x)[0], wanted, atol=0.1)


def test_only_int8_needs_data_and_a_missing_package_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not Latency(LatencyConfig(runtime=("eager", "compile"))).uses_data
    monkeypatch.setattr(latency, "find_spec", lambda name: None if name == "onnxruntime" else object())
    (why,) = Latency(LatencyConfig(runtime=("onnxruntime-int8",))).misfits(usual()).values()
    assert "needs onnxruntime: pip install 'compressit[onnx]'" in why
    assert not Latency(LatencyConfig(runtime=("eager",))).misfits(usual())


def test_what_torch_cannot_compile_is_told_with_what_it_needs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(net: nn.Module, **options: Any) -> Any:
        def run(x: Tensor) -> Tensor:
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(CompressitError, match="RuntimeError: Failed to find C compiler") as caught:
        Latency(LatencyConfig(batch_sizes=(1,), runtime=("compile",))).evaluate(nn.Identity(), lab.context())
    assert "g++" in str(caught.value.hint)


@pytest.mark.parametrize(
    "values", [{"batch_sizes": [3]}, {"batch_sizes": []}, {"repetitions": 1}, {"runtime": ["eager", "eager"]}]
)
def test_sizes_without_a_declared_metric_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(LatencyConfig, values)


def test_it_never_runs_beside_other_jobs_and_belongs_to_this_machine() -> None:
    assert Latency.exclusive
    assert Latency.per_host
