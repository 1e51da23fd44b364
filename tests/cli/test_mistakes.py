"""A mistake is told with its place, nothing is run or made, and the exit code is 2."""

from __future__ import annotations

import gc

import pytest

from compressit import cli

from .recipes import TINY
from .sandbox import Sandbox

LINES = TINY.splitlines()
BOMB = ["a: &a [x, x, x, x, x, x, x, x, x, x]"] + [
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
]


def _with(number: int, line: str) -> str:
    """`TINY` with line `number` (from 1) replaced."""
    return "\n".join([*LINES[: number - 1], line, *LINES[number:]]) + "\n"


RECIPES = {  # all kinds of mistakes: tests/recipe/test_mistakes.py
    "unknown option": (
        _with(5, "model: {uses: model.mlp, with: {hiden: [20]}}"), "r.yaml:5:33:", "did you mean 'hidden'?",
    ),
    "unknown plugin": (_with(4, "data: {uses: data.sintetic}"), "r.yaml:4:14:", "did you mean 'data.synthetic'"),
    "not YAML": (_with(4, "data: {uses: [data.synthetic}"), "r.yaml:4:", "data.synthetic"),
    "alias bomb": ("\n".join([*BOMB, *LINES]), "r.yaml:", "alias"),
    "missing teacher": (TINY.replace("teacher: train", "teacher: trian"), "r.yaml:10:", "'train'"),
    "one metric twice": (
        TINY.replace("eval.size, eval", "eval.latency, {uses: eval.latency, with: {batch_sizes: [1]}}, eval"),
        "r.yaml:12:41: evaluate.2:", "latency_1_median_seconds",
    ),
    "no split for the best": (
        TINY.replace("epochs: 10,", "epochs: 10, restore_best: true,"), "r.yaml:8:68:", "{with: {validation: 0.1}}",
    ),
    "no file": (_with(5, "model: {from: gone.safetensors}"), "r.yaml:5:15:", "gone.safetensors"),
    "empty": ("", "r.yaml", "empty"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place", "word"), RECIPES.values(), ids=RECIPES)
def test_a_mistake_in_a_recipe(text: str, place: str, word: str, sandbox: Sandbox) -> None:
    recipe = sandbox.write("r.yaml", text)
    done = sandbox.run("run", "r.yaml", "--out", "out", code=2)
    told = next((line for line in done.err.splitlines() if line.startswith(place)), None)
    assert told is not None, done.err
    assert word in done.err
    assert done.out == ""
    assert list(sandbox.folder.iterdir()) == [recipe]


SHY = '''\
from compressit import Compressor, Config, hookimpl

class Shy(Compressor[Config]):
    """Cannot say whether it measures times."""
    name = "broken.shy"
    @property
    def per_host(self):
        return {}["times"]
    def compress(self, model, ctx):
        return model

@hookimpl
def compressit_compressors():
    return [Shy]
'''


@pytest.mark.parametrize("command", ["check", "plan"])
def test_a_plugin_that_cannot_answer_is_named_before_anything_runs(command: str, sandbox: Sandbox) -> None:
    sandbox.write("shy.py", SHY)
    text = TINY.replace("stages:\n", "stages:\n  shy: {uses: broken.shy}\n") + "plugins: [./shy.py]\n"
    sandbox.write("r.yaml", text)
    told = sandbox.run(command, "r.yaml", "--trust", code=2).err
    assert "`per_host` of broken.shy fails: KeyError" in told
    assert "shy.py:8" in told


def test_all_mistakes_are_told_at_once(sandbox: Sandbox) -> None:
    text = TINY.replace("epochs: 10", "epochs: ten").replace("repeat: 2", "repeat: 0")
    sandbox.write("r.yaml", text.replace("eval.size", "eval.seize"))
    told = sandbox.run("check", "r.yaml", code=2).err
    assert [line.split(": ")[0].rsplit(":", 1)[0] for line in told.splitlines() if line.startswith("r.yaml:")] == [
        "r.yaml:8", "r.yaml:9", "r.yaml:12",
    ]  # fmt: skip
    assert told.splitlines()[-1] == "3 problems, nothing was run"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.yaml"], ["gone.yaml"]),
        (["."], ["."]),
        (["r.yaml", "--profile", "quikc"], ["quikc", "quick"]),
        (["r.yaml", "--set", "stages.trian.with.epochs=3"], ["trian", "train"]),
        (["r.yaml", "--set", "stages.train.with.epochs=many"], ["--set", "many"]),
        (["r.yaml", "--set", "stages.train.with.epochs"], ["--set", "="]),
        (["r.yaml", "--jobs", "0"], ["--jobs"]),
        (["r.yaml", "--quiet"], ["--quiet"]),
        ([], ["Missing argument"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_on_the_command_line(arguments: list[str], words: list[str], sandbox: Sandbox) -> None:
    recipe = sandbox.write("r.yaml", TINY)
    done = sandbox.run("run", *arguments, code=2)
    assert all(word in done.err for word in words), done.err
    assert list(sandbox.folder.iterdir()) == [recipe]


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_a_folder_that_is_a_file(option: str, sandbox: Sandbox) -> None:
    sandbox.write("r.yaml", TINY)
    done = sandbox.run("run", "r.yaml", option, "r.yaml", code=2)
    assert "r.yaml: the " in done.err
    assert option in done.err


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**options: object) -> None:
        raise OSError(28, "No space left on device", "runs/x/results.csv")

    monkeypatch.setattr(cli, "build", lambda names: full)
    monkeypatch.setattr("sys.argv", ["compressit"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    gc.enable()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: runs/x/results.csv: No space left on device\n"


def test_without_any_argument_it_explains_itself(sandbox: Sandbox) -> None:
    done = sandbox.run(code=2)
    assert "run" in done.out + done.err
    assert "inspect" in done.out + done.err
