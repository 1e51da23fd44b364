from __future__ import annotations

import pytest
import torch
from plugin_lab import Lab

from compressit_plugins.evaluate.accuracy import accuracy_and_loss
from compressit_plugins.shrink.fresh import Fresh
from compressit_plugins.shrink.student import StudentConfig

CONFIG = StudentConfig.model_validate(
    {"width": 0.5, "epochs": 10, "optimizer": {"name": "adam", "lr": 0.01}, "batch_size": 64}
)


@pytest.mark.parametrize(
    ("number", "feed", "width"),
    [(None, "previous", 15), (3, "previous", 15), (1, "original", 15), (3, "original", 4)],
)
def test_the_round_of_a_repeated_stage_decides_the_width(
    number: int | None, feed: str, width: int, lab: Lab
) -> None:
    ctx = lab.context(data=lab.data(), narrow=lab.narrow(30), round=number, feed=feed)
    model = Fresh(CONFIG.model_copy(update={"epochs": 1})).compress(lab.mlp(30), ctx)
    assert model.get_parameter("linear1.weight").shape == (width, 64)


def test_it_learns_the_given_labels_and_owes_nothing_to_the_incoming_weights(lab: Lab, device: str) -> None:
    trained = []
    for seed in (0, 1):
        data = lab.data(device, labels="shuffled", train=64)
        ctx = lab.context(data=data, narrow=lab.narrow(64), device=device)
        config = CONFIG.model_copy(update={"epochs": 60})
        trained.append(Fresh(config).compress(lab.mlp(64, seed=seed), ctx))
    for one, two in zip(*(m.parameters() for m in trained), strict=True):
        assert torch.equal(one, two)
    train = ctx.data.train
    assert accuracy_and_loss(ctx.compute.forward(trained[0], train.x), train.y)[0] == 1.0


def test_a_model_that_does_not_say_how_to_be_narrower_is_narrowed_all_the_same(lab: Lab, device: str) -> None:
    given = lab.mlp(32).to(device)
    model = Fresh(CONFIG).compress(given, lab.context(data=lab.data(device), device=device))
    assert model.get_parameter("linear1.weight").shape == (16, 64)
    assert given.get_parameter("linear1.weight").shape == (32, 64)


def test_the_estimate_follows_the_rounds() -> None:
    work = Fresh(CONFIG).work(1000, 3)
    assert (work.steps, work.batch_size, work.width) == (10 * 16, 64, 0.125)
