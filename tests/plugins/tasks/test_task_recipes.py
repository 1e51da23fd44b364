"""`task`: what a recipe makes of what its data pose, and what does not go with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny_host

from compressit.checkpoint import model as checkpoint
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import RecipeError
from compressit.host.plugins import Host, installed
from compressit.planning.plan import make_plan
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe

TINY = """\
version: 1
name: tiny
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  fit: {uses: tiny.train}
"""
TEXT = """\
version: 1
name: posed
data: {uses: data.synthetic, with: {poses: POSES, classes: 3}}
task: TASK
model: {uses: model.mlp}
stages:
  fit: {uses: train.supervised}
evaluate: [eval.scores]
"""


MONITORED = "{uses: train.supervised, with: {patience: 2, monitor: rmse}}"


def text_of(poses: str = "classification", task: str = "{}", **changes: str) -> str:
    text = TEXT.replace("POSES", poses).replace("TASK", task)
    for old, new in changes.items():
        text = text.replace({"stage": "{uses: train.supervised}", "evaluate": "[eval.scores]"}[old], new)
    return text


def read(text: str, host: Host | None = None) -> Recipe:
    return parse_recipe(text, "r.yaml", host or installed())


def told(text: str, host: Host | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(text, host)
    return [str(problem).split("\n")[0] for problem in caught.value.problems]


@pytest.mark.parametrize("poses", ["classification", "multilabel", "regression", "segmentation"])
def test_by_default_it_is_what_the_dataset_poses(poses: str) -> None:
    task = read(text_of(poses)).variants[0].posed
    assert (task.name, task.outputs, task.posed.names) == (f"task.{poses}", 3, ("0", "1", "2"))


def test_its_options_may_be_set_without_its_name_and_per_variant() -> None:
    text = text_of(task="{with: {label_smoothing: 0.1}}") + (
        "variants:\n  a: {}\n  b: {task: {with: {label_smoothing: 0.2}}}\n"
        "  c: {task: {uses: task.classification, with: {top_k: [2]}}}\n"
    )
    smooth = [variant.posed.config.label_smoothing for variant in read(text).variants]
    assert smooth == [0.1, 0.2, 0.1]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (text_of(task="{uses: task.regresion}"), "4:14", "no task is called"),
        (text_of(task="{uses: task.regression}"), "4:14", "does not fit data.synthetic"),
        (text_of(task="{uses: model.mlp}"), "4:14", "is a model, not a task"),
        (text_of(task="{with: {label_smoothing: 2}}"), "4:32", "task.with.label_smoothing"),
        (text_of(task="{with: {class_weights: [1, 2]}}"), "4:30", "has 2 numbers, and there are 3 classes"),
        (text_of(task="{smoothing: 0.1}"), "4:8", "unknown key 'smoothing'"),
        (text_of(task="[task.regression]"), "4:7", "task must be a mapping"),
        (text_of("regression", evaluate="[eval.accuracy]"), "8:12", "not for task.regression"),
        (text_of("regression", stage="{uses: shrink.noise, with: {labels: hard}}"), "7:44", "labels is 'hard'"),
        (text_of("regression", stage="{uses: distill.soft_labels, with: {temperature: 2.0}}"), "7:56", "no effect"),
        (text_of(stage=MONITORED).replace("classes: 3", "validation: 0.2"), "7:62", "measures loss, accuracy"),
        (text_of("regression").replace("classes: 3", "labels: random"), "3:64", "draws classes"),
        (text_of("segmentation").replace("classes: 3", "augment: [flip]"), "3:67", "no longer fit"),
        (text_of("segmentation").replace("classes: 3", "shape: [9]"), "3:44", "needs images"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_task_is_told_at_its_place(text: str, place: str, words: str) -> None:
    found = told(text)
    assert any(words in line and line.startswith(f"r.yaml:{place}") for line in found), found


@pytest.mark.parametrize("poses", ["multilabel", "regression", "segmentation"])
def test_shuffled_targets_and_a_validation_split_go_with_every_task(poses: str) -> None:
    text = text_of(poses).replace("classes: 3", "classes: 3, labels: shuffled, validation: 0.2, limit: 100")
    (variant,) = read(text).variants
    assert (variant.task.uses, variant.data.config["labels"]) == (f"task.{poses}", "shuffled")


OWN = """\
from compressit import Evaluator, Metric, Report, Task, Trainer, hookimpl
from compressit.contract.classification import Classification
class Derived(Classification):
    '''Derives from what the dataset poses.'''
    name = "own.derived"
class Apart(Task):
    '''Takes what the dataset poses.'''
    name, target, watch, takes = "own.apart", "class", "odd", frozenset({"task.classification"})
    def loss(self, outputs, targets): ...
    def measures(self): return MEASURES
    def scores(self, outputs, targets): ...
class Stranger(Apart):
    '''Is no classification, and takes none.'''
    name, takes, does = "own.stranger", frozenset(), classmethod(lambda cls: frozenset({"own.stranger"}))
class OnlyApart(Trainer):
    name, tasks = "own.trainer", {"own.apart"}
    def train(self, model, ctx): return model
class Usual(Evaluator):
    name, tasks = "own.usual", {"task.classification"}
    metrics = {"usual": Metric("higher", "count", "x")}
    def evaluate(self, model, ctx): return {}
class Words(Report):
    name, tasks = "own.words", {"own.apart"}
@hookimpl
def compressit_tasks(): return [Derived, Apart, Stranger]
@hookimpl
def compressit_trainers(): return [OnlyApart]
@hookimpl
def compressit_evaluators(): return [Usual]
@hookimpl
def compressit_reports(): return [Words]
"""


def own(host: Host, folder: Path, measures: str = '{"odd": Metric("higher", "count", "x")}') -> Host:
    (folder / "own.py").write_text(OWN.replace("MEASURES", measures))
    host.load_file(folder / "own.py")
    return host


def _with(task: str, trainer: str = "tiny.train", rest: str = "") -> str:
    return TINY.replace("tiny.train", trainer) + f"task: {{uses: {task}}}\nevaluate: [own.usual]\n{rest}"


def test_what_derives_from_a_task_does_it_too(tmp_path: Path) -> None:
    host = own(tiny_host(), tmp_path)
    assert read(_with("own.derived"), host).variants[0].posed.name == "own.derived"
    assert any(
        "own.usual is for task.classification, not for own.apart" in line
        for line in told(_with("own.apart"), host)
    )
    assert any(
        "own.trainer is for own.apart" in line for line in told(_with("own.derived", "own.trainer"), host)
    )
    found = told(_with("own.derived", rest="report: [own.words]\n"), host)
    assert any("report.0.uses: own.words is for own.apart" in line for line in found)


def test_a_net_made_for_a_task_starts_another_that_takes_it_and_no_stranger(tmp_path: Path) -> None:
    host = own(tiny_host(), tmp_path)
    file = tmp_path / "net.safetensors"
    architecture = checkpoint.Architecture("tiny.mlp", {"hidden": [4]}, (1, 2, 3), 3)

    def start(task: str) -> str:
        made = checkpoint.build(architecture, host)
        checkpoint.save(made, file, architecture, host=host, task=TaskSpec(task, 3))
        return TINY.replace("{uses: tiny.mlp}", f"{{from: {file}}}")

    for task in ("own.derived", "own.apart", "task.classification", "task.unknown"):
        read(start(task), host)
    (line,) = told(start("own.stranger"), host)
    assert "was made for own.stranger, but the task of tiny.data is task.classification" in line


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        ("{}", "`watch` of own.apart is 'odd'"),
        ("1 / 0", "ZeroDivisionError"),
        ("[]", "is a list, not a mapping"),
    ],
)
def test_a_task_that_cannot_say_what_it_measures_is_told(tmp_path: Path, measures: str, words: str) -> None:
    found = told(_with("own.apart"), own(tiny_host(), tmp_path, measures))
    assert any(words in line for line in found), found


def _keys(text: str, kind: str = "stage") -> dict[str, str]:
    plan = make_plan(read(text), installed())
    return {job.label: key for key, job in plan.jobs.items() if job.kind == kind}


@pytest.mark.parametrize("kind", ["init", "stage", "evaluate"])
def test_a_smoother_training_is_another_key_and_the_first_model_is_shared(kind: str) -> None:
    plain, smooth = _keys(text_of(), kind), _keys(text_of(task="{with: {label_smoothing: 0.1}}"), kind)
    assert plain.keys() == smooth.keys()
    assert (plain == smooth) == (kind == "init")
    written_out = _keys(text_of(task="{uses: task.classification, with: {label_smoothing: 0.0}}"), kind)
    assert plain == written_out


def test_what_is_measured_of_a_given_model_does_not_depend_on_how_others_are_trained(tmp_path: Path) -> None:
    """The evaluation of a first model from a file, which no option of trainings can change."""
    architecture = checkpoint.Architecture("model.mlp", {"hidden": [4]}, (1, 8, 8), 3)
    file = tmp_path / "net.safetensors"
    checkpoint.save(checkpoint.build(architecture, installed()), file, architecture)

    def keys(task: str) -> set[str]:
        text = text_of(task=task).replace("{uses: model.mlp}", f"{{from: {file}}}")
        found = _keys(text, "evaluate")
        return {key for label, key in found.items() if "/init " in label}

    assert keys("{}") == keys("{with: {label_smoothing: 0.1, class_weights: balanced}}")
    assert keys("{}") != keys("{with: {top_k: [2]}}")
