from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plugin_lab import Lab
from tables import NAMES, numbered, saying
from tiny import Bench
from torch import nn

import compressit
from compressit.contract.context import StageContext
from compressit.datasets.options import DataConfig
from compressit.datasets.preparation import prepare
from compressit.datasets.sources import Sources
from compressit.host.plugins import installed
from compressit.python.evaluation import evaluate_file
from compressit_plugins.evaluate.flips import MOST, first_flips, pixels
from compressit_plugins.evaluate.forgotten import Forgotten, ForgottenConfig

FORGOTTEN = Forgotten(ForgottenConfig())
Y = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])


def _measured(
    lab: Lab, model: nn.Module, original: nn.Module, data: Any, device: str = "cpu"
) -> tuple[dict[str, float], StageContext]:
    ctx = lab.context({"original": original}, data=data, device=device)
    return dict(FORGOTTEN.evaluate(model, ctx)), ctx


def test_every_number_is_what_a_hand_count_gives(lab: Lab, device: str) -> None:
    original, model = saying(0, 0, 0, 1, 1, 1, 2, 0), saying(0, 0, 1, 2, 1, 2, 0, 2)
    measured, ctx = _measured(lab, model.to(device), original, numbered(Y, device=device), device)
    assert len(ctx.pictures) == 1
    assert measured == {
        "original_agreement": 3 / 8,
        "negative_flips": 3 / 8,  # examples 2, 5, 6
        "positive_flips": 1 / 8,  # example 7
        "worst_class_change": -1 / 2,
        "worst_class": 1,
    }
    assert ctx.arrays["correct"].tolist() == [True, True, False, False, True, False, False, True]
    assert ctx.arrays["correct"].dtype == bool
    assert ctx.arrays["flipped"].tolist() == [2, 3, 5, 6, 7]
    np.testing.assert_array_equal(ctx.arrays["class_accuracy"], [1 / 2, 1 / 2, 1 / 2, np.nan])
    np.testing.assert_array_equal(ctx.arrays["class_change"], [-1 / 4, -1 / 2, 0, np.nan])


def test_a_nan_is_a_wrong_answer_that_agrees_with_nothing(lab: Lab) -> None:
    measured, ctx = _measured(lab, saying(*[-1] * 8), saying(*Y.tolist()), numbered(Y))
    assert (measured["original_agreement"], measured["negative_flips"]) == (0, 1)
    assert measured["worst_class_change"] == -1
    assert not ctx.arrays["correct"].any()


def test_the_original_itself_has_only_what_needs_no_other_model(lab: Lab) -> None:
    model = saying(*[0] * 8)
    ctx = lab.context({"original": model}, data=numbered(Y), identity=lambda ref: "the same key")
    assert FORGOTTEN.evaluate(model, ctx) == {}
    assert ctx.arrays.keys() == {"correct", "class_accuracy"}
    assert not ctx.pictures


def test_what_stayed_of_replaced_labels_and_of_true_ones(lab: Lab) -> None:
    """Of 60 training examples 40 % have another label; the original learned some of each kind, the model kept some."""
    draws = np.random.default_rng(0)
    given = torch.tensor(draws.integers(4, size=60))
    data = numbered(Y, given, labels="random", label_fraction=0.4, seed=3)
    trained = data.train.y
    wrong = (trained != given).numpy()
    learned, still = draws.random(60) < 0.8, draws.random(60) < 0.6

    def answering(right: np.ndarray) -> nn.Module:
        return saying(*np.where(right, trained.numpy(), (trained.numpy() + 1) % 4).tolist())

    measured, _ = _measured(lab, answering(still), answering(learned), data)
    assert data.relabelled is not None
    untouched = ~data.relabelled.replaced.numpy()
    assert (~untouched & ~wrong).sum() > 0, "some drew their own label again: they tell nothing"
    assert measured["memorised_kept"] == pytest.approx(
        (still & learned & wrong).sum() / (learned & wrong).sum()
    )
    assert measured["generalised_kept"] == pytest.approx(
        (still & learned & untouched).sum() / (learned & untouched).sum()
    )


def test_only_random_labels_leave_nothing_to_generalise_and_true_ones_nothing_to_memorise(lab: Lab) -> None:
    def names(**options: Any) -> set[str]:
        measured, _ = _measured(lab, lab.mlp(seed=1), lab.mlp(seed=2), lab.data(**options))
        return {name for name in measured if name.endswith("_kept")}

    assert names(labels="random") == {"memorised_kept"}
    assert names() == set()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_shows_the_images_that_flipped_as_they_were_before_scaling(
    lab: Lab, channels: int
) -> None:
    torch.manual_seed(0)
    x = torch.rand(80, channels, 5, 7) ** 2
    raw = Sources((x[:40], torch.arange(40) % 4), (x[40:], torch.arange(40) % 4))
    data = prepare(raw, DataConfig(scale="standard"), 4, NAMES)
    torch.testing.assert_close(pixels(data.test.x, data), x[40:].movedim(1, -1))
    before, now = torch.arange(40) % 4, (torch.arange(40) + 1) % 4
    nets = {name: _Told(data.test.x, answers) for name, answers in (("now", now), ("before", before))}
    _, ctx = _measured(lab, nets["now"], nets["before"], data)
    (picture,) = ctx.pictures.values()
    drawn = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    assert max(drawn.shape) < 1500
    # every image is there: a patch of its first pixel's colour, as large as a pixel of the picture is drawn
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3).tolist()}
    shown = (x[40 : 40 + MOST, :, 0, 0] * 255).round().int().expand(-1, 3).tolist()
    near = [min(max(abs(a - b) for a, b in zip(wanted, c, strict=True)) for c in colours) for wanted in shown]
    assert max(near) <= 1


class _Told(nn.Module):
    """Answers known inputs as told, others with class 0."""

    def __init__(self, x: torch.Tensor, classes: torch.Tensor) -> None:
        super().__init__()
        self.known = {row.numpy().tobytes(): int(at) for row, at in zip(x, classes, strict=True)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        classes = torch.tensor([self.known.get(row.numpy().tobytes(), 0) for row in x])
        return nn.functional.one_hot(classes, 4).float()


def test_what_was_forgotten_is_shown_first_and_not_more_than_fit() -> None:
    y = torch.zeros(100, dtype=torch.long)
    before, now = torch.arange(100) % 3, torch.arange(100) // 3 % 3
    found = first_flips(before, now, y).tolist()
    lost = [at for at in range(100) if before[at] == 0 != now[at]]
    won = [at for at in range(100) if now[at] == 0 != before[at]]
    assert found == (lost + won)[:MOST]
    assert MOST > len(lost) > 0
    few = first_flips(before[:12], now[:12], y[:12]).tolist()
    assert sorted(few) == [at for at in range(12) if before[at] != now[at]], (
        "those that are wrong twice come last"
    )


@pytest.mark.parametrize(
    ("shape", "count"), [((1, 4, 4), 1), ((3, 4, 4), 1), ((2, 4, 4), 0), ((16,), 0), ((1, 4), 0)]
)
def test_there_is_a_picture_of_images_only(lab: Lab, shape: tuple[int, ...], count: int) -> None:
    torch.manual_seed(0)
    raw = Sources((torch.rand(9, *shape), torch.arange(9) % 4), (torch.rand(9, *shape), torch.arange(9) % 4))
    data = prepare(raw, DataConfig(), 4, NAMES)
    now = _Told(data.test.x, torch.ones(9, dtype=torch.long))
    _, ctx = _measured(lab, now, _Told(data.test.x, torch.zeros(9, dtype=torch.long)), data)
    assert len(ctx.pictures) == count


def test_class_names_are_drawn_as_they_are_however_odd(lab: Lab) -> None:
    names = ("$x^", "a" * 300, "\\frac{", "<b>")
    raw = Sources((torch.rand(8, 1, 3, 3), Y), (torch.rand(8, 1, 3, 3), Y))
    data = prepare(raw, DataConfig(), 4, names)
    now = _Told(data.test.x, (Y + 1) % 4)
    _, ctx = _measured(lab, now, _Told(data.test.x, Y), data)
    assert Image.open(io.BytesIO(ctx.pictures["flipped_images"])).size[0] < 1500


@pytest.mark.parametrize("poses", ["regression", "multilabel", "segmentation"])
def test_other_tasks_have_the_agreement_alone(lab: Lab, poses: str) -> None:
    task = installed().task(compressit.TaskSpec(f"task.{poses}", 2))
    shape = (8, 2, 3, 3) if poses == "segmentation" else (8, 2)
    torch.manual_seed(0)
    ours, theirs = torch.randn(shape), torch.randn(shape)
    assert FORGOTTEN.declares(task).keys() == {"original_agreement"}
    ctx = lab.context({"original": nn.Identity()}, data=numbered(Y), task=task)
    ctx.memo |= {("logits", "model", "", "test"): ours, ("logits", "original", "", "test"): theirs}
    measured = FORGOTTEN.evaluate(nn.Identity(), ctx)
    a, b = ours.numpy(), theirs.numpy()
    expected = {
        "regression": np.mean([1 - ((a[:, k] - b[:, k]) ** 2).sum() / (b[:, k].var() * 8) for k in (0, 1)]),
        "multilabel": ((a > 0) == (b > 0)).mean(),
        "segmentation": (a.argmax(1) == b.argmax(1)).mean(),
    }[poses]
    assert measured == {"original_agreement": pytest.approx(expected)}
    assert not ctx.arrays
    assert not ctx.pictures


RECIPE = """\
version: 1
name: forgot
data: {uses: data.synthetic, with: {labels: random, label_fraction: 0.3, scale: standard, train: 96, test: 48}}
model: {uses: model.mlp, with: {hidden: [24]}}
stages:
  train: {uses: train.supervised, with: {epochs: 6, batch_size: 16, optimizer: {name: adam, lr: 0.01}}}
  prune: {uses: prune.magnitude, with: {sparsity: 0.8}}
evaluate: [eval.accuracy, eval.forgotten, eval.calibration, eval.robustness]
"""
NEW = ("eval.forgotten", "eval.calibration", "eval.robustness")


def test_a_recipe_a_file_and_python_give_the_same(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    run = compressit.run(tmp_path / "r.yaml", out=tmp_path / "run", store=tmp_path / "store")
    dense, pruned = run.results.rows
    files = [run.folder / str(row.checkpoint) for row in (dense, pruned)]
    settings = ["labels=random", "label_fraction=0.3", "scale=standard", "train=96", "test=48"]
    options = {"eval.forgotten": {"of": str(files[0])}}
    of_file = evaluate_file(files[1], "data.synthetic", settings, NEW, installed(), options=options)
    given = json.loads(json.dumps(dict(setting.split("=") for setting in settings)))
    given |= {"label_fraction": 0.3, "train": 96, "test": 48}
    data = compressit.data("data.synthetic", announce=lambda text: None, **given)
    nets = [compressit.load(file) for file in files]
    of_nets = compressit.evaluate(nets[1], data, *NEW, options={"eval.forgotten": {"of": nets[0]}})
    measured = {
        name: value for name, value in pruned.metrics.items() if not name.endswith(("_loss", "n_accuracy"))
    }
    measured.pop("test_accuracy")
    assert {
        "memorised_kept",
        "generalised_kept",
        "negative_flips",
        "test_calibration_error",
    } <= measured.keys()
    assert dict(of_file) == dict(of_nets) == measured
    for name in ("correct", "class_change", "flipped"):
        saved = run.results.array(pruned, name)
        np.testing.assert_array_equal(of_file.arrays[name], saved)
        np.testing.assert_array_equal(of_nets.arrays[name], saved)
    assert of_file.pictures["flipped_images"] == run.results.picture(pruned, "flipped_images")
    before, now = (run.results.array(row, "correct") for row in (dense, pruned))
    assert (before.mean(), now.mean()) == (dense.metrics["test_accuracy"], pruned.metrics["test_accuracy"])
    assert measured["negative_flips"] == (before & ~now).mean()
    assert "negative_flips" not in dense.metrics
