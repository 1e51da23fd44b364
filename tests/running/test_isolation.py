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
from compressit.running import process_state
from compressit.running.isolation import MOST, Recent, lending, looks

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
    before = process_state.read()
    yield
    process_state.put_back(before)


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
        ("data", r"changed objects that other jobs share: .*the data \(train\.inputs\)"),
        ("labels", r"the data \(test\.y\)"),
        ("teacher", r"a model of ctx\.model \(1\.weight\)"),
        ("mode", r"type, mode or hooks of the whole, .* and \d+ more\)"),
        ("hook", r"\(type, mode or hooks of the whole\)"),
        ("dtype", r"changed process settings .*: default dtype \(now torch\.float64\)"),
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
    [("weights", r"a model of ctx\.model \(1\.weight, 1\.bias, "), ("logits", r"outputs of ctx\.logits")],
)
def test_an_evaluator_that_changes_what_it_measures_fails_alone(
    tmp_path: Path, host: Host, fault: str, words: str
) -> None:
    lab, alone = Lab(tmp_path / "lab", host), Lab(tmp_path / "alone", host)
    text = BASE + f"evaluate: [tiny.accuracy, {{uses: leaky.eval, with: {{fault: {fault}}}}}, leaky.sum]\n"
    found, failed = _run_all(lab, text)
    assert failed.keys() == {"base/seed0/train leaky.eval"}
    with pytest.raises(CompressitError, match="leaky.eval changed objects that other jobs share: " + words):
        raise failed["base/seed0/train leaky.eval"]
    wanted = alone.run(alone.plan(BASE + EVALUATED))["base/seed0/train leaky.sum"]
    assert found["base/seed0/train leaky.sum"].metrics == wanted.metrics


def test_a_stage_that_leaves_all_as_it_was_is_kept(tmp_path: Path, host: Host) -> None:
    found, failed = _run_all(Lab(tmp_path, host), (STAGES + EVALUATED).replace("FAULT", "none"))
    assert not failed
    assert "base/seed0/bad" in found


# A builder and a data set compute in the worker as well


@pytest.mark.parametrize(("old", "new"), [("tiny.mlp", "leaky.net"), ("tiny.data", "leaky.data")])
def test_a_builder_and_a_data_set_are_named_themselves(
    tmp_path: Path, host: Host, old: str, new: str
) -> None:
    _, failed = _run_all(Lab(tmp_path, host), BASE.replace(old, new))
    assert str(next(iter(failed.values()))).startswith(f"{new} changed process settings")
    assert torch.get_default_dtype() is torch.float32


# The parts

CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda x: x[2].add_(1e-6),  # one value of any number
    "zeroed past torch": lambda x: x.data.zero_(),
    "shuffled past torch": lambda x: x.data.copy_(x.data.flip(0)),
    "another type": lambda x: setattr(x, "data", x.double()),
    "reshaped": lambda x: setattr(x, "data", x.view(1, -1)),
    "wants a gradient": lambda x: x.requires_grad_(True),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("count", [5, 200_001])
def test_a_changed_tensor_looks_other(count: int, change: str) -> None:
    x = torch.rand(2 * count, generator=torch.Generator().manual_seed(0))[::2].clone()
    before = looks(x)
    assert looks(x) == before
    CHANGES[change](x)
    assert looks(x) != before


def test_one_bit_past_torch_is_seen_where_a_tensor_is_not_large() -> None:
    x = torch.ones(1000)
    before = looks(x)
    x.data.view(torch.int32)[-1:].bitwise_xor_(1)
    assert looks(x) != before


@pytest.mark.parametrize(
    "odd",
    [
        torch.tensor([], dtype=torch.float32), torch.tensor(3), torch.tensor([True]),
        torch.ones(2, dtype=torch.bfloat16), torch.tensor([float("nan")]), torch.rand(8, 8).T[::2],
        torch.ones(2, dtype=torch.complex64).conj(), torch.ones(3, device="meta"), torch.eye(3).to_sparse(),
        torch.inference_mode()(lambda: torch.ones(2))(),
    ],
)  # fmt: skip
def test_any_tensor_can_be_looked_at(odd: Tensor) -> None:
    assert looks(odd) == looks(odd)


def test_a_model_that_only_computes_stays_as_it_was_and_a_layer_that_was_replaced_is_told(
    device: str,
) -> None:
    net = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400), nn.ReLU()).to(device)
    memo = Recent()
    memo["model", "a"] = net
    Compute.select(device).forward(net, torch.ones(2, 300, device=device))
    assert memo.damage() == []
    net(torch.ones(2, 300, device=device))  # in train mode, batch norm counts
    assert "(1.running_mean, 1.running_var, 1.num_batches_tracked)" in memo.damage()[0]
    memo["model", "a"] = net
    net[2] = nn.GELU()
    assert "(type, mode or hooks of 2)" in memo.damage()[0]


def test_all_is_forgotten_where_something_was_changed_also_where_the_plugin_raised() -> None:
    for error in (CompressitError, ZeroDivisionError):
        memo = Recent()
        memo["a"], memo["b"] = torch.ones(2), torch.ones(2)
        with lending("p.q", memo):
            memo["b"].add(1)

        def change(memo: Recent = memo, error: type[Exception] = error) -> None:
            with lending("p.q", memo):
                memo["a"].data.add_(1)
                torch.set_default_dtype(torch.float64)
                if error is ZeroDivisionError:
                    raise error

        with pytest.raises(error):
            change()
        assert len(memo) == 0
        assert torch.get_default_dtype() is torch.float32


def test_what_was_written_to_and_looks_as_it_did_is_forgotten_without_a_word() -> None:
    memo = Recent()
    memo["model", "a"], memo["data", "b"] = torch.ones(9_000), torch.ones(9_000)
    with lending("p.q", memo):
        memo["model", "a"].mul_(2).div_(2)
    assert list(memo) == [("data", "b")]


def test_of_each_kind_only_what_was_used_last_is_remembered() -> None:
    memo = Recent()
    for number in range(MOST["data"] + 1):
        memo["data", number] = number
        memo["model", number] = number
        assert memo["data", 0] == 0
    assert ("data", 1) not in memo
    assert len(memo) == MOST["data"] + MOST["data"] + 1


class _Nowhere:
    """Leads standard output or error to another file, as a setting."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def restore(self) -> None:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._descriptor)

    def __str__(self) -> str:
        return "another file"


OTHER: dict[str, Any] = {
    "gradients": False, "default dtype": torch.float64, "threads": 7, "deterministic algorithms": 2,
    "anomaly detection": True, "fast attention": not torch.backends.mha.get_fastpath_enabled(),
    "float32 matmul precision": "medium", "cudnn.benchmark": True, "default device": torch.device("meta"),
    "working folder": "/", "recursion limit": 5000,
    "standard output": _Nowhere(1), "standard error": _Nowhere(2),
}  # fmt: skip


@pytest.mark.parametrize("name", process_state.SETTINGS)
def test_every_setting_is_told_and_put_back(name: str) -> None:
    before = process_state.read()
    process_state.SETTINGS[name][1](OTHER[name])
    assert process_state.put_back(before) == [f"{name} (now {OTHER[name]})"]
    assert process_state.read() == before
    assert process_state.put_back(before) == []


def test_a_working_folder_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    assert process_state.put_back(process_state.read()) == []
