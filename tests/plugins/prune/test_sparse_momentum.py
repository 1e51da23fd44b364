"""`prune.sparse_momentum` against the same training by hand: Ding et al. 2019."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from compressit import NoEffectError, StageContext
from compressit.config import parse
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.prune.options import SparseMomentumConfig
from compressit_plugins.prune.sparse_momentum import SparseMomentum

LR, MOMENTUM, DECAY = 0.05, 0.9, 0.01
OPTIMIZER = {"name": "sgd", "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY}


def _options(**given: object) -> SparseMomentumConfig:
    return parse(SparseMomentumConfig, {"optimizer": OPTIMIZER, "batch_size": "all", **given})


def _context(lab: Lab, **fields: Any) -> StageContext:
    return lab.context(data=lab.data(train=200, noise=0.3), **fields)


def _by_hand(model: nn.Module, lab: Lab, active: int, steps: int) -> nn.Module:
    """Every step: of all weights the `active` of the highest |w·g| get their gradient, all get decay and momentum."""
    x, y = _context(lab).data.train.tensors()
    assert isinstance(x, torch.Tensor)
    moments = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for _ in range(steps):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        weights = {name: p for name, p in model.named_parameters() if p.ndim > 1}
        scores = torch.cat([(p * p.grad).abs().flatten() for p in weights.values()])
        least = scores.sort(descending=True).values[active - 1]
        with torch.no_grad():
            for name, p in model.named_parameters():
                assert p.grad is not None
                learns = p.grad if p.ndim == 1 else p.grad * ((p * p.grad).abs() >= least)
                moments[name] = MOMENTUM * moments[name] + learns + (DECAY * p if p.ndim > 1 else 0)
                p -= LR * moments[name]
    return model


def test_it_trains_as_the_paper_says_then_zeroes_the_smallest(lab: Lab) -> None:
    model = lab.mlp()
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    zeros = round(0.8 * weights)
    wanted = _by_hand(copy.deepcopy(model), lab, weights - zeros, 7)
    cut = (
        torch.cat([p.detach().abs().flatten() for p in wanted.parameters() if p.ndim > 1])
        .sort()
        .values[zeros - 1]
    )
    ctx = _context(lab)
    found = SparseMomentum(_options(sparsity=0.8, epochs=7)).compress(copy.deepcopy(model), ctx)
    for (name, p), q in zip(found.named_parameters(), wanted.parameters(), strict=True):
        expected = q if p.ndim == 1 else q * (q.abs() > cut)
        assert torch.allclose(p, expected, atol=1e-6), name
    assert ctx.notes["zeros"] == zeros


def test_what_does_not_learn_fades_so_zeroing_it_costs_less(lab: Lab) -> None:
    x, _ = _context(lab).data.train.tensors()
    assert isinstance(x, torch.Tensor)
    total = sum(p.numel() for p in lab.mlp().parameters() if p.ndim > 1)
    changes = {}
    for active in (total, total - round(0.7 * total)):
        trained = _by_hand(lab.mlp(), lab, active, 1000)
        before = trained(x)
        prune_smallest(trained, 0.7)
        changes[active] = float(((trained(x) - before).norm() / before.norm()).detach())
    ordinary, sparse = changes.values()
    assert sparse < ordinary / 2


def test_what_is_pruned_before_stays_pruned_and_rounds_compound(lab: Lab) -> None:
    model = lab.mlp()
    options = _options(sparsity=0.5, epochs=2)
    first = SparseMomentum(options).compress(model, _context(lab, round=1))
    gone = {name: p == 0 for name, p in first.named_parameters() if p.ndim > 1}
    second = SparseMomentum(options).compress(copy.deepcopy(first), _context(lab, round=2))
    total = sum(mask.numel() for mask in gone.values())
    assert sum(int((p == 0).sum()) for p in second.parameters() if p.ndim > 1) == round(0.75 * total)
    assert all((dict(second.named_parameters())[name][mask] == 0).all() for name, mask in gone.items())
    with pytest.raises(NoEffectError):
        SparseMomentum(options).compress(copy.deepcopy(second), _context(lab, round=2))


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [({"name": "adam"}, "must be sgd"), ({"name": "sgd", "momentum": 0.9}, "needs a `weight_decay`")],
)
def test_an_optimizer_by_which_nothing_fades_is_a_mistake(optimizer: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        parse(SparseMomentumConfig, {"optimizer": optimizer})
