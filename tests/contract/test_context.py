from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressit.contract.context import StageContext
from compressit.seeds import Streams

Make = Callable[..., StageContext]


class _Counting(nn.Module):
    """A linear classifier of 2x3x3 images that counts its forward passes."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(18, classes)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.linear(x.flatten(1))


def test_a_teacher_comes_once_in_eval_mode_without_gradients(make_context: Make) -> None:
    loads: list[str] = []
    teacher = _Counting().train()

    def load(ref: str) -> nn.Module:
        loads.append(ref)
        return teacher

    ctx = make_context(load_model=load, identity=lambda ref: "the same")
    model = ctx.model("train")
    assert ctx.model("train") is ctx.model("previous") is model
    assert loads == ["train"]
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_logits_are_computed_once_per_model_and_split(make_context: Make) -> None:
    ctx, model, teacher = make_context(), _Counting(), _Counting()
    first = ctx.logits(model, "test")
    assert ctx.logits(model, "test") is first
    assert model.passes == 1
    assert first.shape == (20, 4)
    torch.testing.assert_close(first, model.linear(ctx.data.test.x.flatten(1)).detach())
    assert ctx.logits(model, "train").shape == (50, 4)
    theirs = ctx.logits(teacher, "test", "train")
    assert teacher.passes == 1
    assert not torch.equal(theirs, first)


def test_contexts_with_one_memo_share_logits_but_not_across_data(make_context: Make) -> None:
    memo: dict[Any, Any] = {}
    model = _Counting()
    for variant in ("real", "real", "fake"):
        names = {"": variant, "model": "the same"}
        make_context(memo=memo, identity=names.__getitem__).logits(model, "test")
    assert model.passes == 2


def test_data_is_shuffled_by_the_stages_own_streams(make_context: Make) -> None:
    streams = Streams(3, "blog", 2)
    assert make_context(streams=streams).data.train.streams == streams


def test_log_note_and_save_keep_what_a_stage_finds_out(make_context: Make) -> None:
    ctx = make_context()
    ctx.log(1, loss=0.5, accuracy=torch.tensor(0.25))
    ctx.log(2, loss=0.25)
    ctx.note(achieved=0.5)
    ctx.note(achieved=0.6, skipped=["fc"])
    tensor = torch.arange(3.0, requires_grad=True)
    ctx.save("weights", tensor)
    ctx.save("list", np.ones(2))
    assert ctx.curves == {"loss": [(1.0, 0.5), (2.0, 0.25)], "accuracy": [(1.0, 0.25)]}
    assert all(type(v) is float for points in ctx.curves.values() for point in points for v in point)
    assert ctx.notes == {"achieved": 0.6, "skipped": ["fc"]}
    np.testing.assert_array_equal(ctx.arrays["weights"], [0, 1, 2])
    np.testing.assert_array_equal(ctx.arrays["list"], [1, 1])


@pytest.mark.parametrize(
    ("number", "feed", "times"),
    [(None, "previous", 1), (3, "previous", 1), (3, "original", 3), (None, "original", 1)],
)
def test_a_round_fed_by_the_original_takes_all_steps_at_once(
    make_context: Make, number: int | None, feed: str, times: int
) -> None:
    assert make_context(round=number, feed=feed).times() == times


def test_narrower_is_the_hosts_answer_and_none_without_one(make_context: Make) -> None:
    narrow = make_context(
        narrow=lambda multiplier, times: nn.Linear(int(100 * multiplier**times), 1)
    ).with_width(0.5, 2)
    assert isinstance(narrow, nn.Linear)
    assert narrow.in_features == 25
    assert make_context().with_width(0.5) is None
