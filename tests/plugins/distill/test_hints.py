"""Inner layers that learn from a teacher's: which, by what error, and that nothing of it is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plugin_lab import Killed, KilledAfter, Lab
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.contract.context import StageContext
from compressit.datasets.splits import order
from compressit.errors import CompressitError
from compressit_plugins.distill.hints import Hinted, Watched, hinted, paired
from compressit_plugins.distill.options import HintsConfig, TeacherConfig
from compressit_plugins.prune.masks import prune_smallest
from compressit_plugins.train.distill import Distill, DistillConfig

HINTS = {"layers": {"linear?": "linear?"}, "weight": 0.5}


def convnet(*channels: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second, 10),
    )


@torch.no_grad()
def apart(student: nn.Module, teacher: nn.Module, x: Tensor) -> float:
    """The mean squared error of the outputs of both first layers."""
    return float(F.mse_loss(student[1](student[0](x)), teacher[1](teacher[0](x))))


def plugin(**values: Any) -> Distill:
    return Distill(
        DistillConfig.model_validate({"teacher": "train", "batch_size": 64, "hints": HINTS, **values})
    )


def test_it_takes_the_steps_of_a_hand_written_loop(lab: Lab, device: str) -> None:
    """The adapter's first weights are taken from the plugin; everything else is written out."""
    teacher = lab.mlp(32, seed=1).to(device).eval()
    ctx = lab.context({"train": teacher}, data=lab.data(device, train=150), device=device)
    own = {"hints": {"layers": {"linear1": "linear1"}, "weight": 0.5}}
    trained = plugin(epochs=2, hard=0.2, optimizer={"lr": 0.05, "momentum": 0.9}, **own).train(lab.mlp(), ctx)

    model = lab.mlp().to(device)
    adapter = hinted(
        lab.mlp(), lab.mlp(32), HintsConfig(**own["hints"]), ctx.data.train.some(2).cpu(), _cpu(ctx)
    )[0].adapters[0]
    assert isinstance(adapter, nn.Linear)
    assert (adapter.in_features, adapter.out_features) == (16, 32)
    adapter = adapter.to(device)
    optimizer = torch.optim.SGD([*model.parameters(), *adapter.parameters()], lr=0.05, momentum=0.9)
    x, y = ctx.data.train.tensors()
    for epoch in range(2):
        for index in order(150, ctx.streams, epoch).split(64):
            hidden = model[1](model[0](x[index]))
            outputs = model[3](model[2](hidden))
            with torch.no_grad():
                wanted, told = teacher[1](teacher[0](x[index])), (teacher(x[index]) / 4).softmax(1)
            soft = 16 * F.kl_div(F.log_softmax(outputs / 4, 1), told, reduction="batchmean")
            loss = (
                0.8 * soft
                + 0.2 * F.cross_entropy(outputs, y[index])
                + 0.5 * F.mse_loss(adapter(hidden), wanted)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_features_come_nearer_and_nothing_of_the_hints_is_left(lab: Lab) -> None:
    """Also for pruned weights, which stay zero."""
    teacher, student = lab.mlp(32, seed=1).eval(), lab.mlp(32)
    masks = prune_smallest(student, 0.5)
    layers = list(student.state_dict())
    ctx = lab.context({"train": teacher}, data=lab.data())
    before = apart(student, teacher, ctx.data.train.x)
    given = {"layers": {"linear1": "linear1"}, "weight": 10.0}
    trained = plugin(epochs=8, hints=given, optimizer={"name": "adam", "lr": 0.01}).train(student, ctx)
    assert apart(trained, teacher, ctx.data.train.x) < before / 2
    assert trained is student
    assert list(trained.state_dict()) == layers
    assert not any(layer._forward_hooks for net in (trained, teacher) for layer in net.modules())
    assert not trained.training
    for name, mask in masks.items():
        assert torch.equal(trained.get_parameter(name) == 0, mask)


@pytest.mark.parametrize("last", [False, True])
def test_maps_of_other_widths_go_through_a_convolution(lab: Lab, last: bool) -> None:
    teacher, student = convnet(8, 12, seed=1).eval(), convnet(4, 12)
    layers = {"0": "0", "3": "3"} if last else {"0": "0"}
    ctx = lab.context({"train": teacher}, data=lab.data(train=128))
    adapters = hinted(student, teacher, HintsConfig(layers=layers), ctx.data.train.some(2), ctx)[0].adapters
    first = adapters[0]
    assert isinstance(first, nn.Conv2d)
    assert tuple(first.weight.shape) == (8, 4, 1, 1)
    assert all(isinstance(adapter, nn.Identity) for adapter in adapters[1:])
    statistics = student[1].running_mean.clone()
    assert not statistics.any(), "looking at shapes trains nothing"
    plugin(epochs=1, hints={"layers": layers}).train(student, ctx)
    assert student[1].running_mean.any()


def test_a_killed_run_ends_with_the_tensors_of_one_never_killed(lab: Lab, device: str) -> None:
    data = lab.data(device, validation=0.25, train=256)
    teacher = lab.mlp(32, 24, seed=1).to(device)
    method = plugin(epochs=6, restore_best=True, optimizer={"name": "adam", "lr": 0.01})

    def run(**fields: Any) -> nn.Module:
        return method.train(
            lab.mlp(16, 8), lab.context({"train": teacher}, data=data, device=device, **fields)
        )

    expected, progress = run(), KilledAfter(3)
    with pytest.raises(Killed):
        run(progress=progress)
    assert progress.saved is not None
    assert any("adapters" in name for name in progress.saved[0])
    for name, value in run(progress=progress).state_dict().items():
        assert torch.equal(expected.state_dict()[name], value), name


def test_adapters_come_from_a_stream_of_their_own_whatever_was_drawn(lab: Lab) -> None:
    ctx = lab.context({}, data=lab.data())

    def drawn(seed: int, ctx: StageContext = ctx) -> Tensor:
        torch.manual_seed(seed)
        net = hinted(
            lab.mlp(16), lab.mlp(32), HintsConfig(layers={"linear1": "linear1"}), ctx.data.train.some(2), ctx
        )[0]
        return net.adapters[0].get_parameter("weight")

    assert torch.equal(drawn(0), drawn(1))


def test_layers_are_paired_in_the_order_of_the_nets(lab: Lab) -> None:
    three, two = lab.mlp(8, 8, 8), lab.mlp(8, 8)
    assert paired({"linear[12]": "linear?"}, three, two) == [("linear1", "linear1"), ("linear2", "linear2")]
    assert paired({"linear3": "linear1", "output": "output"}, three, two) == [
        ("linear3", "linear1"),
        ("output", "output"),
    ]


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ({"liner1": "linear1"}, r"'liner1' matches no layer of the student(.|\n)*linear1"),
        ({"linear1": "block*"}, r"'block\*' matches no layer of the teacher"),
        (
            {"*linear*": "linear?"},
            r"'\*linear\*' matches 1 layer of the student, and 'linear\?' 2 of the teacher",
        ),
    ],
)
def test_layers_that_do_not_go_together_are_refused(layers: dict[str, str], told: str, lab: Lab) -> None:
    ctx = lab.context({"train": lab.mlp(8, 8)}, data=lab.data())
    with pytest.raises(CompressitError, match=told):
        plugin(hints={"layers": layers}).train(lab.mlp(), ctx)


def test_maps_of_other_sizes_are_refused(lab: Lab) -> None:
    ctx = lab.context({"train": convnet(8, 12)}, data=lab.data())
    with pytest.raises(
        CompressitError, match=r"'4' of the student gives \(12, 1, 1\)(.|\n)*'3' of the teacher \(12, 8, 8\)"
    ):
        plugin(hints={"layers": {"4": "3"}}).train(convnet(4, 12), ctx)


def test_a_layer_that_does_not_run_has_no_output_to_learn() -> None:
    net = nn.Sequential(nn.Linear(3, 3))
    net[0].register_module("unused", nn.Linear(3, 3))
    watched = Watched(net, ["0.unused"])
    watched(torch.zeros(2, 3))
    with pytest.raises(CompressitError, match=r"'0\.unused' of Sequential does not run"):
        watched.features()


def test_hints_need_one_teacher() -> None:
    with pytest.raises(ValidationError, match=r"hints\n.*needs one teacher"):
        TeacherConfig.model_validate({"teacher": ["a", "b"], "hints": HINTS})


def _cpu(ctx: StageContext) -> StageContext:
    from dataclasses import replace

    return replace(ctx, compute=replace(ctx.compute, device="cpu"))


def test_features_are_given_once(lab: Lab) -> None:
    net = Hinted(lab.mlp(), ["linear1"], [nn.Identity()])
    net(torch.zeros(2, 1, 8, 8))
    assert net.adapted()[0].shape == (2, 16)
    with pytest.raises(CompressitError, match="does not run"):
        net.features()
