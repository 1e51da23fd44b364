"""`eval.intrinsic_dimension`: both readings of the threshold, bounded work, a fresh net of the judged one's shape."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Killed, Lab
from pydantic import ValidationError
from torch import Tensor, nn

from compressit.config import parse
from compressit.contract.classification import Classification, ClassificationConfig
from compressit.contract.context import Progress, StageContext
from compressit.contract.records import Metric
from compressit.errors import CompressitError
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.subspace import dimensions
from compressit_plugins.subspace.dimensions import fresh, reached
from compressit_plugins.subspace.intrinsic import IntrinsicDimension, IntrinsicDimensionConfig

GRID = (10, 40, 160)


def options(**values: Any) -> IntrinsicDimensionConfig:
    own = {"dimensions": GRID, "epochs": 2, "batch_size": 64, "optimizer": {"name": "adam", "lr": 0.05}}
    return parse(IntrinsicDimensionConfig, {**own, **values})


def measure(lab: Lab, model: nn.Module, ctx: StageContext, **values: Any) -> dict[str, float]:
    return dict(IntrinsicDimension(options(**values)).evaluate(model, ctx))


@pytest.mark.parametrize(
    ("threshold", "first", "between"),
    [
        (0.5, 10, 10),
        (0.6, 40, 40 / 4 ** (1 / 2)),
        (0.7, 40, 40),
        (0.8, 160, 160 / 4 ** (1 / 2)),
        (0.91, None, None),
    ],
)
def test_the_reading_is_the_first_of_the_grid_or_where_the_line_crosses(
    threshold: float, first: float | None, between: float | None
) -> None:
    scores = (0.5, 0.7, 0.9)
    assert reached(GRID, scores, threshold, interpolate=False) == first
    assert reached(GRID, scores, threshold, interpolate=True) == (between and pytest.approx(between))


def test_both_readings_come_from_one_curve_with_known_scores(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judged net answers class 0 always: its own score is the share of that class, about a tenth."""
    known = iter((0.05, 0.5, 0.95))
    monkeypatch.setattr(dimensions, "_score", lambda *given: next(known))
    ctx, model = lab.context(data=lab.data(test=500), narrow=lab.narrow(20)), lab.mlp(20)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = measure(lab, model, ctx)
    assert found == {"intrinsic_dimension": 160, "intrinsic_dimension_relative": 40}
    assert ctx.curves["subspace_score"] == [(10, 0.05), (40, 0.5), (160, 0.95)]


def test_a_dimension_that_is_not_reached_is_left_out(lab: Lab) -> None:
    ctx = lab.context(data=lab.data(noise=0.9), narrow=lab.narrow(20))
    assert "intrinsic_dimension" not in measure(lab, lab.mlp(20), ctx, dimensions=(1,))


def test_the_model_is_left_alone_and_only_its_shape_matters(lab: Lab, device: str) -> None:
    found = []
    for seed in (0, 1):
        model = lab.mlp(20, seed=seed).to(device).eval().requires_grad_(False)
        before, ctx = (
            copy.deepcopy(model.state_dict()),
            lab.context(data=lab.data(device, train=300), device=device, narrow=lab.narrow(20)),
        )
        measure(lab, model, ctx, dimensions=(20, 100))
        found.append(ctx.curves["subspace_score"])
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not ctx.notes
        assert not ctx.arrays
        assert ctx.curves.keys() == {"subspace_score"}
    assert found[0] == found[1]
    assert found[0][1][1] > found[0][0][1] + 0.05


def test_it_starts_as_the_model_plugin_draws_with_the_judged_nets_zeros(lab: Lab) -> None:
    model = lab.mlp(20)
    masks = prune_smallest(model, 0.9)
    net, found = fresh(model, lab.context(data=lab.data(), narrow=lab.narrow(20)))
    built = lab.narrow(20)(1, 0)
    assert found.keys() == masks.keys()
    for name, value in net.named_parameters():
        own = built.get_parameter(name)
        assert torch.equal(value, own.masked_fill(masks[name], 0) if name in masks else own)
        assert value.requires_grad


def test_without_a_model_plugin_each_layer_draws_its_own_and_one_that_cannot_is_named(lab: Lab) -> None:
    ctx = lab.context(data=lab.data())
    one, other = (fresh(lab.mlp(20, seed=seed), ctx)[0].state_dict() for seed in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(10))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    with pytest.raises(CompressitError, match="cannot be given fresh weights"):
        measure(lab, nn.Sequential(lab.mlp(20), Scale()), ctx)


def test_what_is_pruned_leaves_less_room(lab: Lab) -> None:
    model, ctx = lab.mlp(20), lab.context(data=lab.data(), narrow=lab.narrow(20))
    prune_smallest(model, 0.98)  # of 1,480: with 30 biases 60 are left
    measure(lab, model, ctx, epochs=1)
    assert [x for x, _ in ctx.curves["subspace_score"]] == [10, 40]
    with pytest.raises(CompressitError, match="does not fit into 60 weights"):
        measure(lab, model, ctx, dimensions=(100,))


def test_images_bound_the_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = dimensions.fit

    def fit(model: nn.Module, ctx: StageContext, config: Any, examples: Any, loss: Any) -> nn.Module:
        x, y = examples(0)
        seen.append((len(x), len(y)))
        return real(model, ctx, config, examples, loss)

    monkeypatch.setattr(dimensions, "fit", fit)
    ctx = lab.context(data=lab.data(train=300), narrow=lab.narrow(20))
    measure(lab, lab.mlp(20), ctx, images=100, dimensions=(5, 6))
    assert seen == [(100, 100)] * 2
    work = IntrinsicDimension(options(images=100)).work(300)
    assert (work.steps, work.batch_size) == (3 * 2 * 2, 64)


class KilledAt(Progress):
    """Keeps what is saved and, at the save number `at`, kills the evaluation."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.saves = 0
        self.saved: Any = None

    def load(self) -> Any:
        return self.saved

    def due(self) -> bool:
        return True

    def save(self, tensors: Any, facts: Any) -> None:
        self.saves += 1
        self.saved = {name: tensor.clone() for name, tensor in tensors.items()}, copy.deepcopy(dict(facts))
        if self.saves == self.at:
            raise Killed

    def refuse(self, why: str) -> None:
        raise AssertionError(why)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_killed_within_or_between_dimensions_it_goes_on(
    lab: Lab, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of each dimension: saves within it and after it take turns."""

    def context(progress: Progress | None = None) -> StageContext:
        fields = {} if progress is None else {"progress": progress}
        return lab.context(data=lab.data(train=128), narrow=lab.narrow(20), **fields)

    whole, progress = context(), KilledAt(at)
    measured = measure(lab, lab.mlp(20), whole, threshold=0.2)
    with pytest.raises(Killed):
        measure(lab, lab.mlp(20), context(progress), threshold=0.2)
    trained: list[int] = []
    real = dimensions._score
    monkeypatch.setattr(
        dimensions, "_score", lambda net, kept, d, *rest: trained.append(d) or real(net, kept, d, *rest)
    )
    resumed = context(progress)
    assert measure(lab, lab.mlp(20), resumed, threshold=0.2) == measured
    assert resumed.curves == whole.curves
    assert trained == [*GRID[at // 2 :]]


@pytest.mark.parametrize(("better", "told"), [("lower", {"threshold"}), ("higher", set())])
def test_a_task_that_watches_an_error_has_no_threshold_to_reach(better: Any, told: set[str]) -> None:
    class Watching(Classification):
        def measures(self) -> dict[str, Metric]:
            return {self.watch: Metric(better, "percent", "a score")}

    assert IntrinsicDimension(options()).misfits(Watching(ClassificationConfig())).keys() == told


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"dimensions": (20, 10)}, "ascend"),
        ({"optimizer": {"name": "adam", "weight_decay": 0.1}}, "decay_all"),
    ],
)
def test_options_without_a_meaning_are_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises((ValidationError, CompressitError), match=word):
        options(**values)
