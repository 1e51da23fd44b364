"""`compressit.compare`: live nets, data of one's own and functions, in workers forked from this process, or in it where
those cannot compute."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import gone_soon, same
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import compressit
from compressit import Data, Model, stage
from compressit.contract.compute import device_of, forks_compute
from compressit.errors import CompressitError
from compressit.python.comparing import ComparisonFailed
from compressit.results.comparison import Comparison


class Net(nn.Module):
    """Of a class that only this file has."""

    def __init__(self, width: int = 8, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(12, width)
        self.out = nn.Linear(width, 3)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(x.flatten(1)))) * self.gain


def _tensors(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(seed))
    return x, x.flatten(1)[:, :3].argmax(1)


def _data(seed: int = 0) -> Data:
    return compressit.data(train=_tensors(60, seed), test=_tensors(30, seed + 1), validation=0.2)


SPARSE = stage("prune.magnitude", sparsity=0.5)
TRAIN = stage("train.supervised", epochs=1)


def _halved(model: nn.Module, data: Data) -> nn.Module:
    with torch.no_grad():
        model.hidden.weight[::2] = 0  # type: ignore[index, union-attr]
    return model


Compare = Callable[..., Comparison]


@pytest.fixture(params=["forked", "here"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the jobs run: in workers forked from this process, or in this one, as if those could not compute."""
    if request.param == "here":
        monkeypatch.setattr("compressit.contract.compute.forks_compute", lambda device: False)
    elif not forks_compute(device_of("auto")):
        pytest.skip("forks of this process cannot compute: it uses a GPU, or an earlier test exported")
    return str(request.param)


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """`compare` of a live net on tensors, without controls, in this test's folders."""
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one thread, forked or not

    def compared(strategies: Any, **given: Any) -> Comparison:
        usual: dict[str, Any] = {
            "model": Net(),
            "data": _data(),
            "controls": False,
            "evaluate": ["eval.accuracy", "eval.size"],
            "out": tmp_path / "out",
            "store": tmp_path / "store",
        }
        return compressit.compare(strategies=strategies, **{**usual, **given})

    return compared


def _to_do(capsys: pytest.CaptureFixture[str]) -> int:
    """How many jobs the last run had to do."""
    said = capsys.readouterr().err
    found = re.search(r": (\d+) of \d+ jobs to do", said)
    return int(found[1]) if found else 0


def _models(comparison: Comparison) -> dict[str, dict[str, Tensor]]:
    folder = comparison.results.folder
    assert folder is not None
    rows = [row for row in comparison.results.rows if row.checkpoint]
    return {f"{row.variant}/{row.name}": load_file(folder / str(row.checkpoint)) for row in rows}


def test_a_net_examples_and_functions_of_this_process_are_compared(compared: Compare) -> None:
    net, data = Net(), _data()
    strategies = {
        "sparse": [SPARSE, TRAIN],
        "half": [
            stage("prune.structured", target="macs", keep=0.5),
            stage("train.distill", teacher="original", epochs=1),
        ],
        "mine": _halved,
        "both": [_halved, stage("train.distill", teacher=net, epochs=1)],
        "gained": lambda model, data: stage("prune.magnitude", sparsity=0.25)(model, data),
    }
    found = compared(strategies, model=net, data=data, seeds=[0, 1], jobs=2)
    rows = {(row.variant, row.name, row.seed): row for row in found.results.rows}
    assert [entry.strategy for entry in found.strategies if entry.model != "prune"] == list(strategies)
    expected = compressit.evaluate(net, data, "eval.accuracy")
    assert rows["mine", "init", 0].metrics["test_accuracy"] == expected["test_accuracy"]
    assert rows["half", "train", 1].teacher == "init"
    assert str(rows["both", "train", 1].teacher).endswith(".safetensors")
    macs = [rows["half", name, 0].metrics["macs"] for name in ("init", "train")]
    assert macs[1] <= 0.55 * macs[0]
    wanted = _halved(Net(), data)
    assert same(found.model("mine").state_dict(), wanted.state_dict())
    assert int((found.model("gained").hidden.weight == 0).sum()) + int(  # type: ignore[union-attr]
        (found.model("gained").out.weight == 0).sum()  # type: ignore[union-attr]
    ) == round(0.25 * (12 * 8 + 8 * 3))
    assert same(net.state_dict(), Net().state_dict())


def test_live_and_from_files_are_the_same_bits(compared: Compare, tmp_path: Path) -> None:
    data = compressit.data("data.synthetic", validation=0.25)
    builder = compressit.installed().create(Model, "model.mlp", {"hidden": [6]})
    net = builder.build(data.contract.inputs, data.classes)
    file = tmp_path / "mine.safetensors"
    compressit.save(net, file, uses="model.mlp", hidden=[6], contract=data.contract, task=data.task)
    strategies = {"sparse": [SPARSE, TRAIN], "taught": [SPARSE, stage("train.distill", epochs=2)]}
    given = {"data": data, "strategies": strategies}
    live = compared(model=net, out=tmp_path / "live", **given)
    filed = compared(model=file, out=tmp_path / "filed", **given)
    ours, theirs = _models(live), _models(filed)
    assert len(ours) == 6
    assert ours.keys() == theirs.keys()
    assert all(same(ours[name], theirs[name]) for name in ours)
    metrics = [[row.metrics for row in one.results.rows] for one in (live, filed)]
    assert metrics[0] == metrics[1]


def test_only_what_is_new_runs(compared: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    """`sparse`: the first model, a stage, their evaluations. Every new thing adds what depends on it."""
    one = {"sparse": [SPARSE], "mine": _halved}
    compared(one)
    assert _to_do(capsys) == 3 * 3 + 1  # three models with two evaluations each, and the dry run of pruning
    compared(one)
    assert _to_do(capsys) == 0
    compared({**one, "trained": [SPARSE, TRAIN]})
    assert _to_do(capsys) == 3
    compared({"renamed": _halved})
    assert _to_do(capsys) == 0
    compared({"mine": _halved}, seeds=[0, 1])
    assert _to_do(capsys) == 5  # the stage and the evaluations have a seed; the given net has none
    compared({"mine": lambda model, data: _halved(model, data)})
    assert _to_do(capsys) == 3
    compared(one, model=Net(gain=2.0))
    assert _to_do(capsys) > 5
    compared(one, data=_data(5))
    assert _to_do(capsys) > 5


class Shifting(torch.utils.data.Dataset[Any]):
    """Items with a random transform of this strength."""

    def __init__(self, strength: float) -> None:
        self.x, self.y = _tensors(40, 0)
        self.strength = strength

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = self.strength * torch.rand(())
        return (self.x[index] + noise).clamp(0, 1), int(self.y[index])


def test_a_dataset_of_ones_own_is_read_by_workers_and_known_by_what_it_does(
    compared: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    def data(strength: float) -> Data:
        plain, test = Shifting(0.0), Shifting(0.0)
        return compressit.data(train=Shifting(strength), train_plain=plain, test=test)

    strategies = {"trained": [TRAIN, SPARSE]}
    first = _models(compared(strategies, data=data(0.1)))
    capsys.readouterr()
    compared(strategies, data=data(0.1))
    assert _to_do(capsys) == 0
    other = _models(compared(strategies, data=data(0.5)))
    assert _to_do(capsys) > 3
    assert not same(first["trained/train"], other["trained/train"])


def test_what_cannot_be_known_again_is_told_and_never_reused(
    compared: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = threading.Lock()

    def locked(model: nn.Module, data: Data) -> nn.Module:
        with lock:
            return _halved(model, data)

    for _ in range(2):
        compared({"mine": locked})
        said = capsys.readouterr()
        assert "'mine': results are not reused" in said.out
        assert "'lock' of locked (a lock)" in said.out
        assert "nothing to do" not in said.err


def _nothing(model: nn.Module, data: Data) -> None:
    return None


def _raises(model: nn.Module, data: Data) -> None:
    raise ValueError("no such layer")


def test_a_pruned_transformer_has_its_controls(compared: Compare) -> None:
    """Its class token and table of positions are of no layer, and pruned with the others."""
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = x, torch.arange(40) % 3
    net = VisionTransformer(8, 4, 2, 3, 24, 32, num_classes=3)
    found = compared(
        {"half": [stage("prune.structured", target="channels", keep=0.5), TRAIN]},
        model=net,
        data=compressit.data(train=pair, test=pair),
        controls=["scratch", "thin"],
        evaluate=["eval.size"],
    )
    models = {variant: found.model(variant) for variant in ("half", "scratch", "thin")}
    sizes = {variant: net.class_token.shape[2] for variant, net in models.items()}  # type: ignore[union-attr, index]
    assert sizes["half"] == sizes["scratch"] < 24
    assert sizes["thin"] < 24


BROKEN: dict[str, tuple[Any, str]] = {
    "nothing": (_nothing, "live._nothing returned nothing, not a model"),
    "raises": (_raises, "ValueError: no such layer"),
    "unchanged": (lambda model, data: model, "changed nothing"),
    "other": (lambda model, data: nn.Linear(12, 3), "the function returned a Linear, and it got a Net"),
}


@pytest.mark.usefixtures("anywhere")
def test_strategies_that_fail_take_nothing_from_the_others(compared: Compare) -> None:
    strategies = {name: broken for name, (broken, _) in BROKEN.items()}
    with pytest.raises(ComparisonFailed) as caught:
        compared({**strategies, "sparse": [SPARSE]})
    assert [entry.strategy for entry in caught.value.comparison.strategies] == ["sparse"]
    for name, (_, told) in BROKEN.items():
        assert re.search(rf"{name}/seed0/call: .*{re.escape(told)}", str(caught.value)), name


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"strategies": {}}, "takes its strategies by name"),
        ({"strategies": [SPARSE]}, "takes its strategies by name"),
        ({"strategies": {"a": "prune.magnitude"}}, "'a' is 'prune.magnitude', not a list of stages"),
        ({"strategies": {"a": []}}, "'a' has no stages"),
        ({"strategies": {"a": [stage("prune.magnitude", sparsity=0.5, seed=3)]}}, "seed of its own: 3"),
        ({"strategies": {"a b": SPARSE}}, "'variants.a b' cannot be a file name"),
        ({"model": Net}, "Net is a class"),
        ({"model": nn.Linear(5, 3)}, "does not run on the data"),
        ({"model": "nowhere.safetensors"}, r"nowhere\.safetensors"),
        ({"data": _tensors(9, 0)}, "data= takes what compressit.data returns, not a tuple"),
        ({"baseline": "nobody"}, "names no variant: 'nobody'"),
        ({"jobs": 0}, "at least one worker"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    compared: Compare, tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(CompressitError, match=told):
        compared(**{"strategies": {"a": SPARSE}, **given})
    assert not (tmp_path / "store").exists()


def test_data_that_were_changed_since_are_refused(compared: Compare) -> None:
    from dataclasses import replace

    data = _data()
    with pytest.raises(CompressitError, match=r"not as compressit\.data made them"):
        compared({"a": SPARSE}, data=replace(data, train=data.test))
    with pytest.raises(CompressitError, match=r"not as compressit\.data made them"):
        compared({"a": SPARSE}, data=Data(data.train, None, data.test, 3, data.contract))


@pytest.mark.parametrize("anywhere", ["forked"], indirect=True)
def test_a_strategy_that_kills_its_worker_takes_nothing_from_the_others(
    compared: Compare, anywhere: str
) -> None:
    def dies(model: nn.Module, data: Data) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ComparisonFailed, match="was killed") as caught:
        compared({"broken": dies, "sparse": [SPARSE]})
    assert [entry.strategy for entry in caught.value.comparison.strategies] == ["sparse"]


@pytest.mark.usefixtures("anywhere")
def test_what_a_stage_writes_to_ones_own_data_reaches_nothing_else(compared: Compare, tmp_path: Path) -> None:
    def scribbles(model: nn.Module, data: Data) -> nn.Module:
        for split in (data.train, data.test):
            assert split is not None
            split.x.zero_()  # type: ignore[union-attr]
            split.y.zero_()
        return _halved(model, data)

    net, given = Net(), {"train": _tensors(60, 0), "test": _tensors(30, 1)}
    strategies = {
        "trained": [TRAIN, SPARSE],
        "scribbles": scribbles,
        "later": [stage("train.supervised", epochs=2)],
    }
    with pytest.raises(ComparisonFailed, match="changed objects that other jobs share") as caught:
        compared(strategies, model=net, data=compressit.data(**given))
    assert all(torch.equal(*pair) for pair in zip(given["train"], _tensors(60, 0), strict=True))
    assert all(torch.equal(*pair) for pair in zip(given["test"], _tensors(30, 1), strict=True))
    assert same(net.state_dict(), Net().state_dict())
    del strategies["scribbles"]
    alone = compared(
        strategies, data=compressit.data(**given), store=tmp_path / "other", out=tmp_path / "alone"
    )
    found, wanted = _models(caught.value.comparison)["later/train"], _models(alone)["later/train"]
    assert same(found, wanted)


THREADED = """
import sys
sys.path.insert(0, {tests!r})
import numpy, random, torch
from test_live_comparisons import Net, SPARSE, TRAIN, _data, _halved, _models
from compressit import compare
from compressit.contract.compute import forks_compute

class Deep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, depth):
        ctx.depth = depth
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        if ctx.depth:
            with torch.enable_grad():
                Deep.apply(torch.ones(1, requires_grad=True), ctx.depth - 1).sum().backward()
        return grad, None

net, data = Net(), _data()

def run(name):
    strategies = {{"sparse": [SPARSE, TRAIN], "mine": _halved}}
    given = {{"controls": ["longer"], "evaluate": ["eval.accuracy", "eval.size"], "jobs": 2, "seeds": [0, 1]}}
    found = compare(model=net, data=data, strategies=strategies, out=name, store="store-" + name, **given)
    numbers = [(row.variant, row.seed, row.name, dict(row.metrics)) for row in found.results.rows]
    return numbers, _models(found)

forked = run("forked")
Deep.apply(torch.ones(1, requires_grad=True), 100).sum().backward()  # torch takes threads for so many
assert not forks_compute()
torch.manual_seed(3), numpy.random.seed(4), random.seed(5)
torch.set_num_threads(2)
here = run("here")
assert here[0] == forked[0], (here[0], forked[0])
assert len(forked[1]) == 7 and forked[1].keys() == here[1].keys(), forked[1].keys()
assert all(torch.equal(forked[1][model][name], here[1][model][name]) for model in here[1] for name in here[1][model])
drawn = torch.rand(1), numpy.random.rand(), random.random(), torch.get_num_threads()
torch.manual_seed(3), numpy.random.seed(4), random.seed(5)
assert drawn == (torch.rand(1), numpy.random.rand(), random.random(), 2), drawn
print("the same")
"""


def test_a_session_whose_gradients_have_threads_runs_the_jobs_itself_with_the_same_numbers(
    tmp_path: Path,
) -> None:
    done = _session(THREADED, tmp_path)
    assert done.stdout == "the same\n", done.stderr
    assert done.stderr.count("in this process, one at a time") == 1


INTERRUPTED = """
import sys
sys.path.insert(0, {tests!r})
import os, signal
from test_live_comparisons import Net, TRAIN, _data, _halved
import compressit
from compressit.contract import compute

compute.forks_compute = lambda device: False

def presses(model, data):  # Ctrl-C
    os.kill(os.getpid(), signal.SIGINT)

strategies = {{"mine": _halved, "stopped": presses}}
given = {{"controls": False, "evaluate": ["eval.size"], "out": "out", "store": "store"}}
try:
    compressit.compare(model=Net(), data=_data(), strategies=strategies, **given)
except KeyboardInterrupt:
    print("interrupted")
strategies["stopped"] = TRAIN
print(sorted(compressit.compare(model=Net(), data=_data(), strategies=strategies, **given).models))
strategies["stopped"] = presses
compressit.compare(model=Net(), data=_data(), strategies=strategies, **given)
"""


def test_ctrl_c_ends_a_run_in_the_session_and_the_session_goes_on(tmp_path: Path) -> None:
    done = _session(INTERRUPTED, tmp_path)
    assert done.stdout.splitlines()[0] == "interrupted", done.stderr
    assert "'mine'" in done.stdout.splitlines()[1]
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.returncode in (-signal.SIGINT, 130)


def _session(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python session that runs this code in the folder."""
    environment = {
        **os.environ,
        "COMPRESSIT_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "CUDA_VISIBLE_DEVICES": "",
    }
    code = code.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


SESSION = """
import sys, time, pathlib
sys.path.insert(0, {tests!r})
import compressit, torch
from test_live_comparisons import Net, _data
from compressit import stage

def slow(model, data):
    pathlib.Path("here").touch()
    time.sleep(600)

def quick(model, data):
    model.out.bias.data += 1
    return model

try:
    compressit.compare(
        model=Net(), data=_data(), strategies={{"quick": quick, "slow": slow, "late": slow}}, jobs=2,
        controls=False, out="out", store="store", evaluate=["eval.size"],
    )
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_workers_end_with_the_session_and_what_they_made_is_kept(tmp_path: Path, how: signal.Signals) -> None:
    code = SESSION.format(tests=str(Path(__file__).parent))
    environment = {
        **os.environ,
        "COMPRESSIT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "CUDA_VISIBLE_DEVICES": "",
    }
    session = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    waited = threading.Event()
    try:
        while not (tmp_path / "here").exists() and session.poll() is None:
            waited.wait(0.1)
        workers = _descendants(session.pid)
        assert len(workers) >= 2
        session.send_signal(how)
        said, _ = session.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            session.kill()
    assert gone_soon(workers)
    assert said == ("interrupted\n" if how is signal.SIGINT else "")
    assert list((tmp_path / "store").rglob("model.safetensors"))


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *_descendants(child)]
    return found
