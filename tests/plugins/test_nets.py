"""What stands in the way of a net is named before any work, and what does not stands in nobody's way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import awkward_nets as awkward
import pytest
import torch
from torch import nn

import compressit
from compressit.contract import measure
from compressit.contract.nets import copied, let_go, place_of, try_out, unwrapped
from compressit.datasets.splits import Data
from compressit.errors import CompressitError

TRAIN = compressit.stage("train.supervised", epochs=1)


@pytest.fixture(scope="module")
def data() -> Data:
    return compressit.data("data.synthetic", train=64, test=32)


def test_a_net_that_keeps_its_features_is_as_good_as_any_other(data: Data, tmp_path: Path) -> None:
    net = awkward.KeepsFeatures()
    net(data.test.x).sum().backward()  # as it stands in a notebook: somebody has just used it
    trained = TRAIN(net, data)
    copy.deepcopy(trained)
    for stage in (
        compressit.stage("prune.structured", target="channels"),
        compressit.stage("prune.magnitude", sparsity=0.5, finetune={"epochs": 1}),
        TRAIN,
    ):
        copy.deepcopy(stage(trained, data))
    assert 0 <= compressit.evaluate(trained, data, "eval.accuracy")["test_accuracy"] <= 1
    file = tmp_path / "kept.safetensors"
    compressit.save(trained, file, contract=data.contract)
    again = compressit.load(file, into=awkward.KeepsFeatures())
    assert torch.equal(again(data.test.x), trained(data.test.x))
    assert net.features.grad_fn is not None, "the net given is left as it was"


def test_results_are_let_go_wherever_they_are() -> None:
    net = awkward.KeepsFeatures()
    net(torch.rand(2, 1, 8, 8))
    values = net.seen["last"][0].detach().clone()
    let_go(net)
    kept = (net.features, net.seen["last"][0], net.mean)
    assert [tensor.grad_fn for tensor in kept] == [None] * 3
    assert torch.equal(net.seen["last"][0], values)
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("stage", ["train.supervised", "prune.magnitude", "prune.structured"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (awkward.masked, "'weight' of '4' is masked by torch.nn.utils.prune\n.*prune.remove"),
        (awkward.normed, "'weight' of '4' is computed by torch.nn.utils.weight_norm\n.*remove_weight_norm"),
        (awkward.lazy, "'1.weight' has no shape yet: it belongs to a lazy layer"),
        (lambda: awkward.plain().to("meta"), "'0.weight' has no values: it is on the device 'meta'"),
        (lambda: torch.jit.script(awkward.plain()), "TorchScript"),
        (lambda: awkward.ViewInside(once=True), "'a.weight' was computed from the net's parameters"),
        (
            awkward.MadeInForward,
            r"a forward pass changes the net's tensors: 'table' goes from nothing to \(64,\)",
        ),
        (awkward.KeepsGenerator, "it keeps 'inner.steps', a generator"),
        (awkward.HiddenLayer, r"'more\[0\]', a Linear, requires gradients"),
        (lambda: nn.Sequential(torch.compile(awkward.plain())), "'0' is compiled"),
        (lambda: nn.Sequential(awkward.InPlace(), awkward.plain()), "changes its inputs"),
    ],
)
def test_what_no_stage_can_work_on_is_named(
    data: Data, stage: str, make: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(CompressitError, match=words):
        compressit.stage(stage)(make(), data)


def test_without_data_what_was_computed_cannot_be_told_from_what_is_left_of_a_forward_pass() -> None:
    with pytest.raises(CompressitError, match=r"'a\.weight' was computed from the net's parameters"):
        compressit.stage("prune.magnitude")(awkward.ViewInside(once=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("what", ["train.supervised", "prune.structured", "evaluate"])
def test_another_floating_type_is_told_as_that(data: Data, dtype: torch.dtype, what: str) -> None:
    net = awkward.plain().to(dtype)
    with pytest.raises(CompressitError, match=f"weights are {dtype} .*inputs are torch.float32\n.*net.float"):
        compressit.evaluate(net, data) if what == "evaluate" else compressit.stage(what)(net, data)
    compressit.stage("prune.magnitude")(net, data)  # which feeds it nothing


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tuple", "not one tensor: tuple of 2"),
        ("named", "not one tensor: Named of 2"),
        ("dict", "not one tensor: dict of logits"),
        ("training", "not one tensor: tuple of 2"),
        ("few", r"outputs of shape \(64, 5\), but labels go up to 9"),
        ("maps", r"outputs of shape \(64, 10, 1, 1\)[^\n]*\n.*must return logits"),
    ],
)
def test_outputs_of_another_form_are_told_as_that(data: Data, kind: str, words: str) -> None:
    with pytest.raises(CompressitError, match=words):
        TRAIN(awkward.Outputs(kind), data)
    if kind == "training":
        compressit.evaluate(awkward.Outputs(kind), data)
        return
    with pytest.raises(CompressitError, match=words):
        compressit.evaluate(awkward.Outputs(kind), data, "eval.accuracy")


def test_a_batch_of_one_is_told_as_that(data: Data) -> None:
    with pytest.raises(CompressitError, match="a net with batch norm got a batch of one example"):
        compressit.stage("train.supervised", epochs=1, batch_size=1)(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)), data
        )


def test_the_layer_that_an_error_passed_through_is_named(data: Data) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Linear(65, 10)))
    with pytest.raises(CompressitError, match=r"does not run .*: in '1\.1' \(Linear\): mat1"):
        TRAIN(net, data)
    with pytest.raises(RuntimeError) as caught:
        net(data.test.x)
    assert place_of(caught.value, net) == "in '1.1' (Linear): "
    assert place_of(caught.value, nn.ReLU()) == ""


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, torch.optim.swa_utils.AveragedModel, lambda net: nn.DataParallel(torch.compile(net))],
)
def test_what_torch_wraps_around_a_net_is_taken_off(
    data: Data, wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    net = awkward.plain()
    wrapped = wrap(net)
    assert unwrapped(wrapped).state_dict().keys() == net.state_dict().keys()
    plain, trained = TRAIN(net, data), TRAIN(wrapped, data)
    assert type(trained) is nn.Sequential
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), trained.parameters(), strict=True))
    assert compressit.evaluate(wrapped, data) == compressit.evaluate(net, data)
    compressit.save(wrapped, tmp_path / "net.safetensors", contract=data.contract)
    other = wrap(awkward.plain())
    filled = compressit.load(tmp_path / "net.safetensors", into=other)
    assert filled is unwrapped(other)
    assert torch.equal(filled(data.test.x), net.eval()(data.test.x))


def test_a_view_of_a_parameter_given_to_a_layer_is_counted(data: Data) -> None:
    """torch's counter hooks gradients of what layers are given."""
    net = awkward.ViewGiven()
    assert measure.macs(net, (1, 8, 8)) == 640
    assert all(parameter.requires_grad for parameter in net.parameters())
    frozen = awkward.ViewGiven()
    frozen.a.weight.requires_grad_(False)
    measure.macs(frozen, (1, 8, 8))
    assert not frozen.a.weight.requires_grad
    assert compressit.evaluate(net, data, "eval.size")["macs"] == 640


def test_a_view_made_in_every_forward_pass_is_trained_and_copied(data: Data) -> None:
    net = awkward.ViewInside(once=False)
    trained = TRAIN(net, data)
    assert not torch.equal(trained.bank, net.bank)
    copy.deepcopy(trained)


def test_trying_out_leaves_a_net_as_it_was() -> None:
    net = awkward.plain().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert try_out(net, torch.rand(2, 1, 8, 8))
    assert not try_out(net, torch.rand(2, 7))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_cannot_be_copied_is_named() -> None:
    net = awkward.plain()
    net[4].lock = open  # a function: fine
    copied(net)
    net[4].lock = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(CompressitError, match=r"'4\.lock', a generator"):
        copied(net)


def test_nobody_finds_the_data_changed_by_a_net_that_works_in_place(data: Data) -> None:
    before = data.test.x.clone(), data.train.x.clone()
    net = nn.Sequential(awkward.InPlace(), awkward.plain())
    with pytest.raises(CompressitError, match="changes its inputs"):
        compressit.evaluate(net, data)
    with pytest.raises(CompressitError, match="changes its inputs"):
        TRAIN(net, data)
    assert torch.equal(data.test.x, before[0])
    assert torch.equal(data.train.x, before[1])


@pytest.mark.filterwarnings("ignore:Unwrapped parameters:UserWarning")
@pytest.mark.parametrize("stage", ["train.supervised", "prune.structured", "shrink.fresh"])
def test_whole_numbers_among_the_parameters_are_in_nobodys_way(data: Data, stage: str) -> None:
    net = awkward.Permutes()
    options = {"target": "channels"} if stage == "prune.structured" else {"epochs": 1}
    if stage == "shrink.fresh":
        with pytest.raises(CompressitError, match="cannot be given fresh weights"):
            compressit.stage(stage, **options)(net, data)
        return
    result = compressit.stage(stage, **options)(net, data)
    assert torch.equal(result.places, net.places)
    assert compressit.evaluate(result, data, "eval.size")["parameters"] > 0


def test_complex_weights_are_trained(data: Data) -> None:
    net = awkward.Complex()
    trained = TRAIN(net, data)
    assert trained.a.weight.is_complex()
    assert not torch.equal(trained.a.weight, net.a.weight)


@pytest.mark.parametrize("stage", ["distill.soft_labels", "shrink.fresh"])
def test_parametrised_layers_that_cannot_be_made_narrower_are_named(data: Data, stage: str) -> None:
    net = awkward.plain()
    torch.nn.utils.parametrizations.weight_norm(net[4])
    with pytest.raises(CompressitError, match="4 is parametrised"):
        compressit.stage(stage, epochs=1)(net, data)
