"""eval.adversarial on a linear net: every number can be worked out from its margins."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from linear import W, binary, data, margins
from PIL import Image
from plugin_lab import Lab
from torch import Tensor, nn

import compressit
from compressit.contract.context import StageContext
from compressit.datasets.splits import Data
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.running import rng
from compressit_plugins.adversarial.adversarial import Adversarial, AdversarialConfig

L1, L2 = sum(map(abs, W)), float(np.linalg.norm(W))


def _examples(count: int = 300) -> tuple[Tensor, Tensor]:
    """Images of one row of three values, away from the ends of the range; one label in ten is wrong."""
    torch.manual_seed(0)
    x = 0.5 + 0.1 * torch.randn(count, 1, 1, 3).clamp(-3, 3)
    right = (margins(x) <= 0).long()
    return x, torch.where(torch.arange(count) % 10 == 0, 1 - right, right)


def _measured(
    lab: Lab, model: nn.Module, given: Data, **options: Any
) -> tuple[Mapping[str, float], StageContext]:
    ctx = lab.context(data=given, streams=rng.judging(0, "eval.adversarial"))
    return Adversarial(AdversarialConfig(**{"images": 300, **options})).evaluate(model, ctx), ctx


class Unscaled(nn.Module):
    """A net for inputs before scaling."""

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.std + self.mean)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_numbers_are_those_of_the_margins_whatever_the_scale(lab: Lab, scaled: bool) -> None:
    x, y = _examples()
    size, margin = margins(x).abs(), margins(x)
    right = (margin <= 0).long() == y
    scale = {"scale": {"mean": [0.3], "std": [0.2]}} if scaled else {}
    model = Unscaled(binary(), 0.3, 0.2).eval() if scaled else binary()
    measured, ctx = _measured(lab, model, data(x, y, **scale), fgsm=(0.02, 0.05), pgd=(0.02,), bound=0.1)
    far = (size / L2)[right].double()
    assert measured["attacked_accuracy"] == pytest.approx(0.9)
    for name, by in (("fgsm_0_02", 0.02), ("fgsm_0_05", 0.05), ("pgd_0_02", 0.02)):
        expected = float((right & (size > by * L1)).double().mean())
        assert 0.05 < expected < 0.85
        assert measured[f"{name}_accuracy"] == pytest.approx(expected, abs=0.004), name
    assert measured["adversarial_distance"] == pytest.approx(float(far.mean()), rel=0.01)
    assert measured["adversarial_distance_median"] == pytest.approx(float(far.median()), rel=0.01)
    assert measured["adversarial_rms"] == pytest.approx(float(far.mean()) / 3**0.5, rel=0.01)
    assert measured["adversarial_found"] == pytest.approx(
        float((far / 3**0.5 <= 0.1).double().mean()), abs=0.01
    )
    distances = torch.from_numpy(ctx.arrays["adversarial_distances"])
    torch.testing.assert_close(distances[right], (size / L2)[right], rtol=0.01, atol=1e-4)
    assert bool(distances[~right].isnan().all())
    assert ctx.curves["fgsm_accuracy"][0] == (0.0, measured["attacked_accuracy"])
    assert [point[1] for point in ctx.curves["adversarial_within"]][-1] == 1.0


def test_random_noise_of_the_same_length_changes_fewer_answers(lab: Lab) -> None:
    """In three dimensions noise as long as the nearest wrong input never reaches further along the weights."""
    measured, _ = _measured(lab, binary(), data(*_examples()), fgsm=(0.05,), pgd=())
    assert measured["equal_noise_changed"] == 0
    assert measured["random_0_05_accuracy"] > measured["fgsm_0_05_accuracy"] + 0.1


def test_with_a_euclidean_bound_reach_is_the_weights_length(lab: Lab) -> None:
    x, y = _examples()
    right = (margins(x) <= 0).long() == y
    measured, _ = _measured(lab, binary(), data(x, y), norm="l2", fgsm=(0.05,), pgd=(0.08,), nearest=0)
    for name, by in (("fgsm_0_05", 0.05), ("pgd_0_08", 0.08)):
        expected = float((right & (margins(x).abs() > by * L2)).double().mean())
        assert measured[f"{name}_accuracy"] == pytest.approx(expected, abs=0.004)
    assert "adversarial_distance" not in measured


@pytest.mark.parametrize("target", [1, "b"])
def test_a_target_is_reached_from_other_classes_only(lab: Lab, target: int | str) -> None:
    x, y = _examples()
    y = (margins(x) <= 0).long()
    others, size = y == 0, margins(x).abs()
    measured, ctx = _measured(lab, binary(), data(x, y), target=target, fgsm=(0.05,), pgd=(0.02,))
    assert measured["attacked_reached"] == 0
    for name, by in (("fgsm_0_05", 0.05), ("pgd_0_02", 0.02)):
        expected = float((size[others] < by * L1).double().mean())
        assert measured[f"{name}_reached"] == pytest.approx(expected, abs=0.004)
    assert measured["adversarial_distance"] == pytest.approx(float(size[others].mean()) / L2, rel=0.01)
    assert int(np.isfinite(ctx.arrays["adversarial_distances"]).sum()) == int(others.sum())


def test_examples_are_spaced_evenly_over_the_split(lab: Lab) -> None:
    """Files come class by class: here the first half has one label, and the net is right in that half only."""
    x, _ = _examples(100)
    y = (torch.arange(100) >= 50).long()
    always = binary((0.0, 0.0, 0.0), 1.0)
    measured, _ = _measured(lab, always, data(x, y), images=10, fgsm=(0.1,), pgd=(), nearest=0)
    assert measured["attacked_accuracy"] == 0.5


def test_pictures_show_inputs_ten_times_the_change_and_results(lab: Lab) -> None:
    _, ctx = _measured(lab, binary(), data(*_examples()), fgsm=(), pgd=(), pictures=4)
    with Image.open(io.BytesIO(ctx.pictures["adversarial_examples"])) as image:
        assert image.width > 4 * 100
        assert image.height > 3 * 100
    _, none = _measured(lab, binary(), data(*_examples()), fgsm=(), pgd=(), pictures=0)
    assert not none.pictures


def test_all_that_it_gives_is_declared_and_the_controls_are_too(lab: Lab) -> None:
    task = installed().task(compressit.TaskSpec("task.classification", 2, ("a", "b")))
    for options in ({}, {"target": 1}, {"nearest": 0, "fgsm": ()}, {"norm": "l2"}):
        plugin = Adversarial(AdversarialConfig(**{"pgd": (0.01,), "steps": 3, **options}))
        measured, ctx = _measured(
            lab, binary(), data(*_examples()), **{"pgd": (0.01,), "steps": 3, **options}
        )
        declared = plugin.declares(task)
        given = {*measured, *ctx.curves, *ctx.arrays, *ctx.pictures}
        assert given == declared.keys(), options


def test_what_cannot_be_attacked_is_told(lab: Lab) -> None:
    class Table(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(2)[(x.flatten(1)[:, 0] > 0.5).long()]

    x, y = _examples(20)
    with pytest.raises(CompressitError, match="no gradient"):
        _measured(lab, Table(), data(x, y))
    whole = torch.arange(9)[:, None]
    spec = compressit.TensorSpec((1,), "int64", 0, 9)
    from compressit.datasets.options import DataConfig
    from compressit.datasets.preparation import prepare
    from compressit.datasets.sources import Sources

    labels = torch.zeros(9, dtype=torch.long)
    given = prepare(Sources((whole, labels), (whole, labels)), DataConfig(), 2, ("a", "b"), inputs=spec)
    with pytest.raises(CompressitError, match=r"eval\.adversarial takes one tensor of floats"):
        _measured(lab, Table(), given)


@pytest.mark.parametrize(
    ("target", "fits"),
    [(None, True), (0, True), (1, True), ("b", True), (2, False), (-1, False), ("c", False)],
)
def test_a_target_must_be_a_class(target: int | str | None, fits: bool) -> None:
    task = installed().task(compressit.TaskSpec("task.classification", 2, ("a", "b")))
    assert ("target" not in Adversarial(AdversarialConfig(target=target)).misfits(task)) == fits


def test_other_tasks_are_a_mistake_of_the_recipe() -> None:
    assert Adversarial.tasks == {"task.classification"}
    with pytest.raises(ValueError, match="must differ"):
        AdversarialConfig(pgd=(0.1, 0.1))
