"""`model.cifar_resnet`, against a plain definition of the net that pytorch_resnet_cifar10 shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.checkpoint import model as checkpoint
from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.importing.described import Described, Told
from compressit.importing.weights import import_weights
from compressit_plugins.models.cifar_resnet import CifarResnetConfig, CifarResnetModel

# layers: of the paper's table 6, in millions; the exact ones are of the files that Idelbayev publishes
MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
EXACT = {20: 269_722, 56: 853_018}


def build(depth: int, width: int = 16, shape: tuple[int, ...] = (3, 32, 32)) -> nn.Module:
    return CifarResnetModel(CifarResnetConfig(depth=depth, width=width)).build(TensorSpec(shape), 10)


def computed(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The logits of the published net in eval mode, from its tensors."""

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        prefix, _, number = name.rpartition("conv")
        norm = f"{prefix}bn{number}"
        x = F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)
        mean, var, weight, bias = (
            state[f"{norm}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = layer("conv1", x).relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            y = layer(f"layer{stage}.{block}.conv1", x, stride).relu()
            y = layer(f"layer{stage}.{block}.conv2", y)
            if stride == 2:
                quarter = torch.zeros(len(x), y.shape[1] // 4, *y.shape[2:])
                x = torch.cat([quarter, x[:, :, ::2, ::2], quarter], 1)
            x = (y + x).relu()
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def trained(depth: int, width: int) -> nn.Module:
    """With statistics, scales and shifts as a training leaves them: none is 0 or 1."""
    torch.manual_seed(0)
    net = build(depth, width).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.weight.data, 0.5, 1.5), (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
            ):  # fmt: skip
                value.uniform_(low, high)
    return net


@pytest.mark.parametrize("depth", MILLIONS)
def test_it_has_the_published_parameters(depth: int) -> None:
    net = build(depth)
    count = sum(value.numel() for value in net.parameters())
    assert count == EXACT.get(depth, count)
    assert count / 1e6 == pytest.approx(MILLIONS[depth], rel=0.03)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == depth


def test_it_computes_what_the_published_net_computes() -> None:
    net, x = trained(14, 8), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(net(x), computed(net.state_dict(), x, blocks=2))


def test_a_published_checkpoint_is_imported_as_it_is(tmp_path: Path) -> None:
    state, x = trained(8, 16).state_dict(), torch.randn(2, 3, 32, 32)
    shared = {f"module.{name}": value for name, value in state.items() if "num_batches" not in name}
    torch.save({"best_prec1": 91.7, "state_dict": shared}, tmp_path / "resnet8.th")
    told = Told.model_validate({"input": [3, 32, 32], "scale": "imagenet"})
    target = tmp_path / "resnet8.safetensors"
    import_weights(
        tmp_path / "resnet8.th",
        target,
        described=Described("model.cifar_resnet", {"depth": 8}, told, installed()),
    )
    torch.testing.assert_close(checkpoint.load(target, host=installed())(x), computed(state, x, blocks=1))
    other = Described("model.cifar_resnet", {"depth": 14}, told, installed())
    with pytest.raises(CompressitError, match=r"missing: layer1\.1\.conv1\.weight"):
        import_weights(tmp_path / "resnet8.th", tmp_path / "other.safetensors", described=other)


@pytest.mark.parametrize("size", [(1, 7, 5), (4, 64, 64)])
def test_other_channels_and_odd_sizes_run(size: tuple[int, int, int]) -> None:
    assert build(8, 3, size)(torch.zeros(2, *size)).shape == (2, 10)


def test_narrower_and_checkpoint_options() -> None:
    narrower = CifarResnetModel(CifarResnetConfig(depth=56)).with_width(0.7)
    assert (narrower.depth, narrower.width) == (56, 12)
    assert parse(CifarResnetConfig, dump(narrower)) == narrower


@pytest.mark.parametrize(("depth", "near"), [(18, "14 or 20"), (2, "8")])
def test_a_depth_is_six_times_the_blocks_and_two(depth: int, near: str) -> None:
    with pytest.raises(ValidationError, match=near):
        parse(CifarResnetConfig, {"depth": depth})


def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(CompressitError, match=r"\(64,\)(.|\n)*model\.mlp"):
        build(8, shape=(64,))
