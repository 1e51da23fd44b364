"""What is left goes back to the values of another model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from plugin_lab import Lab
from torch import nn

from compressit.checkpoint.model import load
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.planning.plan import make_plan
from compressit.recipe.load import parse_recipe
from compressit.running.job import JobRunner
from compressit.store.objects import Store
from compressit_plugins.prune.magnitude import Magnitude, MagnitudeConfig

RECIPE = """\
version: 1
name: ticket
data: {uses: data.synthetic, with: {train: 60}}
model: {uses: model.mlp, with: {hidden: [16]}}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
  ticket: {uses: prune.magnitude, repeat: 3, with: {sparsity: 0.2, rewind: init, finetune: {epochs: 1}}}
  dense: {uses: prune.magnitude, needs: train, repeat: 2, feed: original, with: {sparsity: 0.5, rewind: init}}
"""


def test_survivors_go_back_and_everything_that_was_pruned_stays_zero(lab: Lab) -> None:
    first, net = lab.mlp(seed=1), lab.mlp(seed=2)
    earlier = net.get_parameter("output.weight").data[:, ::2].zero_()
    config = MagnitudeConfig(sparsity=0.7, include=("linear1",), rewind="init")
    gone = Magnitude(MagnitudeConfig(sparsity=0.7, include=("linear1",))).compress(
        lab.mlp(seed=2), lab.context()
    )
    Magnitude(config).compress(net, lab.context({"init": first}, data=lab.data(train=9)))
    assert not earlier.any()
    for name, value in net.named_parameters():
        mask = torch.zeros_like(value, dtype=torch.bool)
        if name == "linear1.weight":
            mask = gone.get_parameter(name) == 0
        elif name == "output.weight":
            mask[:, ::2] = True
        assert torch.equal(value[~mask], first.get_parameter(name)[~mask]), name
        assert not value[mask].any(), name


def test_a_model_of_another_shape_is_refused(lab: Lab) -> None:
    with pytest.raises(CompressitError, match=r"another shape: linear1\.weight"):
        Magnitude(MagnitudeConfig(rewind="init")).compress(lab.mlp(16), lab.context({"init": lab.mlp(12)}))


def test_a_lottery_ticket_loses_a_fifth_of_what_is_left_in_each_round(tmp_path: Path) -> None:
    host = installed()
    plan = make_plan(parse_recipe(RECIPE, "recipe.yaml", host, None, (), lambda plugin: True, None), host)
    runner = JobRunner(Store(tmp_path), host, tmp_path)
    made = {
        f"{job.kind} {job.stage}{job.round or ''}": load(runner.run(job, lambda event: None).model_file)
        for job in plan.jobs.values()
        if job.kind in ("init", "dry_run", "stage")
    }
    total = 64 * 16 + 160
    masks: list[dict[str, torch.Tensor]] = []
    for number in (1, 2, 3):
        net = made[f"stage ticket{number}"]
        masks.append({n: net.get_parameter(n) == 0 for n in ("linear1.weight", "output.weight")})
        assert sum(int(mask.sum()) for mask in masks[-1].values()) == round((1 - 0.8**number) * total)
    for before, after in pairwise(masks):
        assert all(bool(after[name][mask].all()) for name, mask in before.items())
    half, quarter = made["stage dense1"], made["stage dense2"]  # not trained afterwards: init's own values
    for net, share in ((half, 0.5), (quarter, 0.75)):
        left: list[nn.Parameter] = [net.get_parameter(n) for n in ("linear1.weight", "output.weight")]
        assert sum(int((w == 0).sum()) for w in left) == round(share * total)
        for name, value in net.named_parameters():
            own = made["init init"].get_parameter(name)
            assert torch.equal(value[value != 0], own[value != 0]), name
