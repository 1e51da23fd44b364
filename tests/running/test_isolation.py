"""A plugin that changes what it is lent fails itself, and nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BASE, PLUGINS, Lab, tiny_host
from torch import Tensor, nn

from compressit.contract.compute import Compute
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.running import settings
from compressit.running.fingerprint import changed, fingerprint
from compressit.running.isolation import lending
from compressit.running.memo import Recent

LEAKY = PLUGINS.parent / "leaky_plugins.py"
STAGES = BASE + "  bad: {uses: leaky.stage, needs: train, with: {fault: FAULT, teacher: train}}\n"
INNOCENT = """\
  next: {uses: tiny.shrink, needs: train, with: {teacher: train}}
  last: {uses: tiny.train, needs: train}
"""
EVALUATED = "evaluate: [tiny.accuracy, leaky.sum]\n"


@pytest.fixture
def host() -> Host:
    host = tiny_host()
    host.load_file(LEAKY)
    return host


@pytest.fixture(autouse=True)
def _settings() -> Any:
    before = settings.read()
    yield
    settings.put_back(before)


def _run_all(lab: Lab, text: str) -> tuple[dict[str, Any], dict[str, BaseException]]:
    """Every job in one worker, in the recipe's order; what was found, and what failed, by label."""
    plan, failed = lab.plan(text), {}
    for job in plan.jobs.values():
        try:
            lab.runner.run(job, lab.events.append)
        except Exception as error:  # noqa: BLE001 - as a worker does
            failed[job.label] = error
    found = {job.label: lab.store.find(key) for key, job in plan.jobs.items()}
    return {label: artifact for label, artifact in found.items() if artifact}, failed


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("data", r"changed what other jobs use too: the data \(train\.x\)"),
        ("labels", r"the data \(test\.y\)"),
        ("teacher", r"the model 'train' \(1\.weight\)"),
        ("mode", r"the model 'train' \(train or eval mode of the whole, .* and \d+ more\)"),
        ("hook", r"the model 'train' \(hooks on the whole\)"),
        ("dtype", r"left settings of the process changed: default dtype \(now torch\.float64\)"),
        ("threads", r"threads \(now \d+\)"),
        ("folder", r"working folder \(now /\)"),
        ("raise", "linear9"),
    ],
)
def test_a_stage_that_changes_what_it_is_lent_fails_alone(
    tmp_path: Path, host: Host, fault: str, words: str
) -> None:
    text = (STAGES + INNOCENT + EVALUATED).replace("FAULT", fault)
    lab, alone = Lab(tmp_path / "lab", host), Lab(tmp_path / "alone", host)
    found, failed = _run_all(lab, text)
    label = "base/seed0/bad"
    assert failed.keys() == {label, f"{label} tiny.accuracy", f"{label} leaky.sum"}
    with pytest.raises(Exception, match=words):
        raise failed[label]
    if fault != "raise":
        assert isinstance(failed[label], CompressitError)
        assert str(failed[label]).startswith("leaky.stage ")
    assert label not in found, "nothing of it is stored"
    for job in lab.plan(text).jobs.values():
        if job.label in found:  # as in a worker of its own
            wanted = alone.new_runner().run(job, alone.events.append)
            assert (found[job.label].metrics, found[job.label].notes) == (wanted.metrics, wanted.notes)
            if job.kind == "stage":
                assert found[job.label].model_file.read_bytes() == wanted.model_file.read_bytes()
    assert {f"base/seed0/{name} leaky.sum" for name in ("train", "next", "last")} <= found.keys()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("weights", r"the model it measured \(1\.weight, 1\.bias, "), ("logits", r"outputs of ctx\.logits")],
)
def test_an_evaluator_that_changes_what_it_measures_fails_alone(
    tmp_path: Path, host: Host, fault: str, words: str
) -> None:
    lab, alone = Lab(tmp_path / "lab", host), Lab(tmp_path / "alone", host)
    text = BASE + f"evaluate: [tiny.accuracy, {{uses: leaky.eval, with: {{fault: {fault}}}}}, leaky.sum]\n"
    found, failed = _run_all(lab, text)
    assert failed.keys() == {"base/seed0/train leaky.eval"}
    with pytest.raises(CompressitError, match="leaky.eval changed what other jobs use too: " + words):
        raise failed["base/seed0/train leaky.eval"]
    wanted = alone.run(alone.plan(BASE + EVALUATED))["base/seed0/train leaky.sum"]
    assert found["base/seed0/train leaky.sum"].metrics == wanted.metrics


def test_a_stage_that_leaves_all_as_it_was_is_kept(tmp_path: Path, host: Host) -> None:
    found, failed = _run_all(Lab(tmp_path, host), (STAGES + EVALUATED).replace("FAULT", "none"))
    assert not failed
    assert "base/seed0/bad" in found


# A builder and a data set compute in the worker as well

BUILDER = """
import torch
from compressit import Dataset, Model, hookimpl
from compressit.datasets.splits import RawData

class Net(Model):
    "A layer."
    name = "leaky.net"
    def build(self, input_shape, classes):
        torch.set_default_dtype(torch.float64)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, classes))

class Numbers(Dataset):
    "Numbers."
    name = "leaky.data"
    input_shape = (1, 2, 3)
    classes = 3
    def load(self, ctx):
        torch.set_default_dtype(torch.float64)
        return RawData(torch.rand(9, 1, 2, 3), torch.arange(9) % 3, torch.rand(3, 1, 2, 3), torch.arange(3))

@hookimpl
def compressit_models(): return [Net]
@hookimpl
def compressit_datasets(): return [Numbers]
"""


@pytest.mark.parametrize(("old", "new"), [("tiny.mlp", "leaky.net"), ("tiny.data", "leaky.data")])
def test_a_builder_and_a_data_set_are_named_themselves(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "builder.py").write_text(BUILDER)
    host = tiny_host()
    host.load_file(tmp_path / "builder.py")
    _, failed = _run_all(Lab(tmp_path, host), BASE.replace(old, new))
    assert str(next(iter(failed.values()))).startswith(f"{new} left settings of the process changed")
    assert torch.get_default_dtype() is torch.float32


# The parts


def _views(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "zeroed": lambda x: x.data.zero_(),
    "one bit": lambda x: x.data.view(torch.int32)[-1:].bitwise_xor_(1),
    "a sign": lambda x: x.data[1:2].neg_(),
    "all signs": lambda x: x.data.neg_(),
    "two swapped": lambda x: x.data[:2].copy_(x[:2].flip(0)),
    "shuffled": lambda x: x.data.copy_(x[torch.randperm(len(x), generator=torch.Generator())]),
    "two words swapped": lambda x: x.data[:4].copy_(x[:4].view(2, 2).flip(0).flatten()),
    "turned": lambda x: x.data.copy_(x.flip(0)),
    "a NaN": lambda x: x.data[3].fill_(float("nan")),
    "another tensor": lambda x: setattr(x, "data", x.double()),
    "reshaped": lambda x: setattr(x, "data", x.view(1, -1)),
    "wants a gradient": lambda x: x.requires_grad_(True),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("count", [5, 70_000, 200_001])  # below and above what is summed by columns
def test_a_changed_tensor_has_another_fingerprint(count: int, change: str) -> None:
    x = _views(count)
    before = fingerprint(x)
    assert fingerprint(x) == before
    CHANGES[change](x)
    assert changed(before, fingerprint(x)) == ["its values"]


@pytest.mark.parametrize("count", [5, 200_001])
def test_equal_bits_have_one_fingerprint_however_they_lie_in_memory(count: int) -> None:
    whole = _views(2 * count + 1)
    assert fingerprint(whole[1 : count + 1]) == fingerprint(whole[1 : count + 1].clone())
    assert fingerprint(whole[1::2]) == fingerprint(whole[1::2].clone())
    whole[3] = float("nan")
    assert fingerprint(whole) == fingerprint(whole.clone())


@pytest.mark.parametrize(
    "odd",
    [
        torch.tensor([], dtype=torch.float32), torch.tensor(3), torch.tensor([True]),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64).conj(), torch.ones(3, device="meta"), torch.eye(3).to_sparse(),
    ],
)  # fmt: skip
def test_any_tensor_has_a_fingerprint(odd: Tensor) -> None:
    assert fingerprint(odd) == fingerprint(odd)


def test_a_model_is_the_same_wherever_it_is(device: str) -> None:
    net = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400))
    before = fingerprint(net)
    net.to(device)
    Compute.select(device).forward(net, torch.ones(2, 300, device=device))
    assert fingerprint(net) == before
    net(torch.ones(2, 300, device=device))  # in train mode, batch norm counts
    assert changed(before, fingerprint(net)) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_a_layer_that_was_replaced_is_told() -> None:
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    before = fingerprint(net)
    net[1] = nn.GELU()
    assert changed(before, fingerprint(net)) == ["the type of 1"]


def test_only_what_was_asked_for_is_looked_at_and_all_is_forgotten() -> None:
    memo, data = Recent(3), Recent(3)
    memo["a"], memo["b"], data["c"] = torch.ones(2), torch.ones(2), torch.ones(2)
    with lending("p.q", memo, data):
        memo["b"].add(1)
        torch.Tensor.add_(dict(memo.items())["a"], 0)
    with (
        pytest.raises(CompressitError, match=r"p\.q changed .*: a \(its values\)"),
        lending("p.q", memo, data),
    ):
        memo["a"].data.add_(1)
    assert (len(memo), len(data)) == (0, 0)


def test_an_error_inside_is_the_one_that_is_told() -> None:
    memo = Recent(3)
    memo["a"] = torch.ones(2)

    def fail() -> None:
        memo["a"].data.add_(1)
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), lending("p.q", memo):
        fail()
    assert len(memo) == 0
    assert torch.get_default_dtype() is torch.float32


class _Nowhere:
    """Leads standard output or error to another file, as a setting."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def restore(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._descriptor)
        os.close(nowhere)

    def __str__(self) -> str:
        return "another file"


OTHER: dict[str, Any] = {
    "gradients": False, "default dtype": torch.float64, "threads": 7, "deterministic algorithms": 2,
    "anomaly detection": True, "fast attention": not torch.backends.mha.get_fastpath_enabled(),
    "float32 matmul precision": "medium", "cudnn.benchmark": True, "default device": torch.device("meta"),
    "working folder": "/", "recursion limit": 5000,
    "standard output": _Nowhere(1), "standard error": _Nowhere(2),
}  # fmt: skip


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_every_setting_is_told_and_put_back(name: str) -> None:
    before = settings.read()
    settings.SETTINGS[name][1](OTHER[name])
    assert settings.put_back(before) == [f"{name} (now {OTHER[name]})"]
    assert settings.read() == before
    assert settings.put_back(before) == []


def test_a_working_folder_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    assert settings.put_back(settings.read()) == []
