from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from compressit.config import dump, parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.models.torchvision_nets import Torchvision, TorchvisionConfig, classifiers


def build(name: str, *shape: int, classes: int = 7, **options: float) -> nn.Module:
    torch.manual_seed(0)
    return Torchvision(TorchvisionConfig(name=name, **options)).build(TensorSpec(shape), classes)  # type: ignore[arg-type]


def test_it_knows_exactly_torchvisions_classifiers() -> None:
    assert classifiers() == frozenset(models.list_models(module=models))
    assert len(classifiers()) >= 80


def test_a_misspelt_name_is_found_while_checking_without_torch() -> None:
    code = (
        "import sys; from pydantic import ValidationError\n"
        "from compressit_plugins.models.torchvision_nets import TorchvisionConfig\n"
        "TorchvisionConfig(name='resnet18')\n"
        "try: TorchvisionConfig(name='reznet18')\n"
        "except ValidationError as error: print(error)\n"
        "print([m for m in ('torch', 'torchvision', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "did you mean 'resnet18'" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "quantized_resnet18", "list_models", ""])
def test_what_is_no_classifier_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no classification architecture"):
        parse(TorchvisionConfig, {"name": name})


def test_with_three_channels_it_is_torchvisions_own_net() -> None:
    net = build("mnasnet0_5", 3, 32, 32, classes=10)
    torch.manual_seed(0)
    own = models.mnasnet0_5(num_classes=10)
    x = torch.rand(2, 3, 32, 32)
    assert net.training
    assert torch.equal(net.eval()(x), own.eval()(x))


def test_other_channels_get_a_first_convolution_of_their_own() -> None:
    net, own = build("mnasnet0_5", 1, 28, 28), models.mnasnet0_5(num_classes=7)
    changed = {n for n, p in net.named_parameters() if p.shape != own.get_parameter(n).shape}
    assert changed == {"layers.0.weight"}
    assert str(net).replace("Conv2d(1, ", "Conv2d(3, ", 1) == str(own)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 7)


def test_auxiliary_heads_are_off_in_train_mode_too() -> None:
    net = build("googlenet", 3, 32, 32)
    assert net.training
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert not [name for name, _ in net.named_modules() if "aux" in name]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "squeezenet1_1",
            (3, 8, 8),
            "does not take inputs of 3 x 8 x 8(.|\n)*smallest images according to torchvision are 17 x 17",
        ),
        ("vit_b_32", (3, 40, 40), "square images whose side is a multiple of 32, not 40 x 40"),
        ("vit_b_32", (3, 32, 64), "not 32 x 64"),
        ("maxvit_t", (3, 64, 64), "cannot be built for images of 64 x 64"),
        ("resnet18", (64,), r"\(64,\)(.|\n)*model\.mlp"),
    ],
)
def test_inputs_it_does_not_take_are_refused_with_what_it_takes(
    name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(CompressitError, match=message):
        build(name, *shape)


def test_dropout_is_passed_on_or_refused() -> None:
    net = build("mobilenet_v2", 3, 32, 32, dropout=0.35)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.35]
    with pytest.raises(CompressitError, match="resnet18 has no dropout"):
        build("resnet18", 3, 32, 32, dropout=0.1)


def test_building_draws_the_weights_only_and_options_come_back() -> None:
    one, same = build("mnasnet0_5", 1, 8, 8), build("mnasnet0_5", 1, 8, 8)
    assert all(map(torch.equal, one.state_dict().values(), same.state_dict().values()))
    assert int(one.layers[1].num_batches_tracked) == 0  # the trial run of a build leaves no trace
    config = TorchvisionConfig(name="resnet18", dropout=0.25)
    assert parse(TorchvisionConfig, dump(config)) == config
