"""Which teachers answer, what they see, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_lab import Lab
from torch import Tensor, nn
from torch.utils.data import Dataset

from compressit.contract.context import StageContext
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.datasets.splits import Data
from compressit.datasets.stored import stored
from compressit.errors import CompressitError
from compressit_plugins.distill.options import TeacherConfig
from compressit_plugins.distill.taught import Lesson, lesson

PIXELS = torch.randint(256, (96, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(96) % 10


class Images(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return PIXELS[index], index % 10


def prepared(examples: Any, device: str = "cpu", **options: Any) -> Data:
    return prepare(Sources(examples), DataConfig.model_validate(options), 10, tuple("abcdefghij"), device)


def counting(teacher: nn.Module) -> list[Tensor]:
    """Everything that the teacher sees from now on."""
    seen: list[Tensor] = []
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def given(ctx: StageContext, student: nn.Module, **options: Any) -> Lesson:
    return lesson(student, ctx, TeacherConfig.model_validate({"teacher": "train", **options}))


def test_several_teachers_teach_the_mean_of_their_logits(lab: Lab, device: str) -> None:
    """The geometric mean of their probabilities, written out."""
    teachers = {name: lab.mlp(24, seed=seed).to(device).eval() for name, seed in (("one", 1), ("two", 2))}
    ctx = lab.context(teachers, data=lab.data(device, train=80), device=device)
    x, _, told = next(given(ctx, lab.mlp(), teacher=["one", "two"]).examples.batches(32, 0))
    both = torch.stack([teacher(x).softmax(1) for teacher in teachers.values()]).prod(0).sqrt().detach()
    torch.testing.assert_close(told.softmax(1), both / both.sum(1, keepdim=True))


def test_teachers_of_other_classes_are_refused(lab: Lab) -> None:
    teachers = {"one": lab.mlp(), "two": nn.Sequential(nn.Flatten(), nn.Linear(64, 7))}
    with pytest.raises(
        CompressitError, match=r"teachers' outputs have the shapes \(512, 10\) and \(512, 7\)"
    ):
        given(lab.context(teachers, data=lab.data()), lab.mlp(), teacher=["one", "two"])


@pytest.mark.parametrize("kept", ["floats", "bytes", "file"])
@pytest.mark.parametrize("size", [32, "all"])
def test_what_repeats_is_answered_once_wherever_it_is_kept(
    kept: str, size: Any, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept == "bytes":
        monkeypatch.setattr("compressit.datasets.preparation.MOST_FLOATS", 1000)
    file = stored(Images(), tmp_path, "images", 0, lambda text: None) if kept == "file" else None
    data = prepared(file or (PIXELS, LABELS))
    assert isinstance(getattr(data.train, "inputs", None), Tensor) == (kept != "file")
    teacher = lab.mlp(seed=1).eval()
    expected = teacher(PIXELS.float() / 255).detach()
    seen = counting(teacher)
    examples = given(lab.context({"train": teacher}, data=data), lab.mlp()).examples
    for epoch in range(2):
        batches = list(examples.batches(size, epoch))
        assert sum(len(x) for x, *_ in batches) == 96
        for x, _, told in batches:
            torch.testing.assert_close(told, expected[_places(x)])
    assert torch.cat(seen).shape[0] == 96


@pytest.mark.parametrize("augment", [["flip"], ["flip", {"crop": 1}]])
def test_augmented_images_are_answered_as_the_student_sees_them(
    augment: list[Any], lab: Lab, device: str
) -> None:
    data = prepared((PIXELS, LABELS), device, augment=augment)
    teacher = lab.mlp(seed=1).to(device).eval()
    ctx = lab.context({"train": teacher}, data=data, device=device)
    examples = given(ctx, lab.mlp()).examples
    seen = counting(teacher)
    epochs = [list(examples.batches(32, epoch)) for epoch in range(2)]
    batches = [batch for epoch in epochs for batch in epoch]
    assert len(seen) == len(batches) == 6
    for x, (own, _, told) in zip(list(seen), batches, strict=True):
        assert torch.equal(x, own)
        torch.testing.assert_close(told, teacher(own).detach())
    assert not torch.equal(*(torch.cat([x for x, *_ in epoch]).sort(0).values for epoch in epochs))


def _places(x: Tensor) -> Tensor:
    """Which of PIXELS these are."""
    given = (x * 255).round().to(torch.uint8).flatten(1)
    return (given[:, None] == PIXELS.flatten(1)[None]).all(2).int().argmax(1)
