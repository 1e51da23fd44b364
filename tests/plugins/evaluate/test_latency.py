from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import Tensor, nn

from compressit.config import parse
from compressit.contract.compute import Compute
from compressit_plugins.evaluate import latency
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
    assert set(values) <= set(Latency.metrics)
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
    monkeypatch.setattr(latency, "forward_seconds", lambda *arguments: seconds)
    values = Latency(LatencyConfig(batch_sizes=(32,))).evaluate(nn.Identity(), lab.context())
    lower, median, upper = np.percentile(seconds, [25, 50, 75])
    assert values["latency_32_median_seconds"] == pytest.approx(median)
    assert values["latency_32_iqr_seconds"] == pytest.approx(upper - lower)


@pytest.mark.parametrize("values", [{"batch_sizes": [3]}, {"batch_sizes": []}, {"repetitions": 1}])
def test_sizes_without_a_declared_metric_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(LatencyConfig, values)


def test_it_never_runs_beside_other_jobs_and_belongs_to_this_machine() -> None:
    assert Latency.exclusive
    assert Latency.per_host
