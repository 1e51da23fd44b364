"""A dataset whose files change, that has doubts, or that leaves examples out where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BASE, Lab, same
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from compressit.contract.classification import usual
from compressit.contract.context import DataContext
from compressit.contract.kinds import Dataset
from compressit.datasets.options import DataConfig
from compressit.datasets.sources import SkipExample, Sources
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.running.loading import load_data
from compressit.store.progress import StoredProgress

X, Y = torch.rand(12, 1, 2, 3), torch.arange(12) % 3
PLUGIN = '''
from pathlib import Path
import torch
from compressit import Config, CompressitError, DataConfig, Dataset, InputPath, Sources, TensorSpec, hookimpl
from pydantic import Field


class Filed(DataConfig):
    file: InputPath = Field(description="a file")


class FromFile(Dataset[Filed]):
    """As many images as its file says."""

    name = "lab.filed"
    inputs = TensorSpec((1, 2, 3))
    classes = 3

    @property
    def train_size(self):
        return len(self.fingerprint())

    def fingerprint(self):
        try:
            return Path(self.config.file).read_text()
        except OSError as error:
            raise CompressitError(f"no such file: {self.config.file}", "write one") from error

    def doubts(self):
        return ["its file is short"] if self.train_size < 9 else []

    def load(self, ctx):
        x = torch.rand(self.train_size, 1, 2, 3, generator=torch.Generator().manual_seed(0))
        return Sources((x, torch.arange(len(x)) % 3), (x, torch.arange(len(x)) % 3))


@hookimpl
def compressit_datasets():
    return [FromFile]
'''
RECIPE = """
version: 1
name: filed
data: {uses: lab.filed, with: {file: given.txt}}
model: {uses: tiny.mlp}
stages: {train: {uses: tiny.train}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "filed.py").write_text(PLUGIN)
    (tmp_path / "given.txt").write_text("a" * 12)
    lab = Lab(tmp_path)
    lab.host.load_file(tmp_path / "filed.py")
    return lab


def _problem(text: str, host: Host, folder: Path) -> str:
    with pytest.raises(CompressitError) as caught:
        parse_recipe(text, "recipe.yaml", host, None, (), lambda plugin: True, folder / "recipe.yaml")
    return str(caught.value)


def test_a_path_is_relative_to_the_recipe_and_its_mistake_is_the_users(lab: Lab, tmp_path: Path) -> None:
    plan = lab.plan(RECIPE)
    assert plan.recipe.variants[0].dataset.config.file == str(tmp_path / "given.txt")
    assert plan.recipe.doubts() == []
    told = _problem(RECIPE.replace("given", "taken"), lab.host, tmp_path)
    assert f"no such file: {tmp_path / 'taken.txt'}" in told
    assert "help: write one" in told
    assert "bug" not in told


def test_files_that_changed_since_planning_are_refused_and_planned_anew(lab: Lab, tmp_path: Path) -> None:
    plan = lab.plan(RECIPE)
    (tmp_path / "given.txt").write_text("b" * 12)
    with pytest.raises(CompressitError, match="changed since this run was planned"):
        lab.run(plan)
    assert lab.run(lab.plan(RECIPE))


def test_a_datasets_doubts_are_those_of_the_recipe_and_of_the_results(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("a" * 6)
    plan = lab.plan(RECIPE)
    assert any("its file is short" in doubt for doubt in plan.recipe.doubts())
    stages = [made for label, made in lab.run(plan).items() if label.endswith("/train")]
    assert "its file is short" in stages[0].manifest["notes"]["data_doubts"]


class Changing(Dataset[DataConfig]):
    """Its files change while they are read."""

    name = "lab.changing"
    inputs = TensorSpec((1, 2, 3))
    classes = 3
    content = "before"

    def fingerprint(self) -> str:
        return self.content

    def load(self, ctx: DataContext) -> Sources:
        type(self).content = "after"
        return Sources((X, Y), (X, Y))


def test_files_that_change_while_they_are_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=r"files of lab\.changing changed while they were read"):
        load_data(Changing(DataConfig()), usual(), tmp_path, lambda text: None)


class Items(TorchDataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 5:
            raise SkipExample("number 5")
        return X[index], int(Y[index])


class Drawing(Dataset[DataConfig]):
    """Random transforms of examples of which one cannot be read."""

    name = "lab.drawing"
    inputs = TensorSpec((1, 2, 3))
    classes = 3

    def load(self, ctx: DataContext) -> Sources:
        return Sources(train=Items(), train_plain=Items(), test=(X, Y))


def test_an_example_with_random_transforms_cannot_be_left_out(tmp_path: Path) -> None:
    dataset: Any = Drawing(DataConfig())
    with pytest.raises(CompressitError, match=r"cannot be left out: number 5"):
        load_data(dataset, usual(), tmp_path, lambda text: None)


STREAMING = '''
import os
from pathlib import Path
import torch
from compressit import DataConfig, Dataset, FitConfig, Sources, TensorSpec, Trainer, fit, hookimpl
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset as TorchDataset

ROOT = Path(ROOT_PATH)


class Files(TorchDataset):
    """An image of a file; in training with random brightness."""

    def __init__(self, draws):
        self.draws = draws
        self.files = sorted(ROOT.glob("*.img"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        pixels = torch.tensor(list(self.files[index].read_bytes())).view(1, 2, 3) / 255
        return pixels * torch.rand(1) if self.draws else pixels, index % 3


class Streams(Dataset[DataConfig]):
    """Reads its files anew in every epoch."""

    name = "lab.files"
    inputs = TensorSpec((1, 2, 3))
    classes = 3

    def fingerprint(self):
        return str([(file.name, file.read_bytes()) for file in sorted(ROOT.glob("*.img"))])

    def load(self, ctx):
        return Sources(Files(True), train_plain=Files(False))


class Train(Trainer[FitConfig]):
    """Trains."""

    name = "lab.train"

    def train(self, model, ctx):
        return fit(model, ctx, self.config, ctx.data.train, cross_entropy)


@hookimpl
def compressit_datasets():
    return [Streams]


@hookimpl
def compressit_trainers():
    return [Train]
'''


def _streaming(root: Path) -> Lab:
    (root / "images").mkdir(parents=True)
    for number in range(12):
        (root / f"images/{number:02d}.img").write_bytes(bytes(range(20 * number, 20 * number + 6)))
    (root / "streams.py").write_text(STREAMING.replace("ROOT_PATH", repr(str(root / "images"))))
    lab = Lab(root, save_every=0)
    lab.host.load_file(root / "streams.py")
    return lab


STREAMED = BASE.replace("tiny.data", "lab.files").replace("tiny.train", "lab.train, with: {epochs: 4}")


def _after(epochs: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something after so many epochs of the training, when they are saved."""
    save, saves = StoredProgress.save, []

    def spied(progress: StoredProgress, tensors: Any, facts: Any) -> None:
        save(progress, tensors, facts)
        saves.append(1)
        if len(saves) == epochs:
            act()

    monkeypatch.setattr(StoredProgress, "save", spied)


def test_a_file_that_vanishes_is_named_and_the_training_goes_on_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _streaming(tmp_path / "whole")
    plan = whole.plan(STREAMED)
    whole.run(plan)
    wanted = whole.model(plan, "base/seed0/train")
    lab = _streaming(tmp_path / "broken")
    gone = tmp_path / "broken/images/07.img"
    content = gone.read_bytes()
    _after(2, gone.unlink, monkeypatch)
    plan = lab.plan(STREAMED)
    with pytest.raises(CompressitError, match=r"example 7 cannot be read.*07\.img") as caught:
        lab.run(plan)
    assert "start again" in str(caught.value.hint)
    gone.write_bytes(content)
    lab.run(plan)
    assert {"resumed": 2} in lab.events
    assert same(lab.model(plan, "base/seed0/train"), wanted)


def test_files_that_change_while_they_are_trained_on_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _streaming(tmp_path / "lab")
    _after(2, lambda: (tmp_path / "lab/images/07.img").write_bytes(b"123456"), monkeypatch)
    with pytest.raises(CompressitError, match=r"lab\.files changed while it was trained on them"):
        lab.run(lab.plan(STREAMED))
    assert lab.run(lab.plan(STREAMED))["base/seed0/train"].notes["epochs"] == 4, "planned anew"


def test_a_checkpoint_does_not_tell_where_the_data_lay(lab: Lab, tmp_path: Path) -> None:
    plan = lab.plan(RECIPE)
    (job,) = (job for job in plan.jobs.values() if job.kind == "stage")
    assert job.data["config"]["file"] == str(tmp_path / "given.txt"), "the worker reads it there"
    assert job.lineage[-1]["data"]["config"]["file"] == "given.txt"
    assert str(tmp_path) not in str(job.lineage)
