from __future__ import annotations

import importlib
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compressit.config import parse
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit_plugins.models.timm_nets import Timm, TimmConfig


def build(name: str, *shape: int) -> nn.Module:
    torch.manual_seed(0)
    return Timm(TimmConfig(name=name)).build(TensorSpec(shape), 5)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CompressitError, match=r"install compressit\[timm\]"):
        build("test_resnet", 3, 32, 32)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp/x", "../resnet18", "a b", ""])
def test_names_that_would_fetch_or_read_a_model_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        parse(TimmConfig, {"name": name})


@pytest.mark.extra("timm")
@pytest.mark.parametrize(("name", "shape"), [("test_resnet", (1, 8, 8)), ("test_vit", (2, 48, 48))])
def test_it_fits_the_data(name: str, shape: tuple[int, ...]) -> None:
    assert build(name, *shape)(torch.rand(2, *shape)).shape == (2, 5)


@pytest.mark.extra("timm")
def test_it_is_timms_own_net() -> None:
    timm = importlib.import_module("timm")
    net = build("test_resnet", 1, 16, 16)
    torch.manual_seed(0)
    own = timm.create_model("test_resnet", num_classes=5, in_chans=1)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(net.eval()(x), own.eval()(x))


@pytest.mark.extra("timm")
def test_an_unknown_name_and_images_it_does_not_take() -> None:
    with pytest.raises(CompressitError, match=r"no architecture 'reznet18'(.|\n)*'resnet18'"):
        build("reznet18", 3, 32, 32)
    with pytest.raises(CompressitError, match="test_vit does not take inputs of 3 x 40 x 40"):
        build("test_vit", 3, 40, 40)
    with pytest.raises(CompressitError, match="needs images"):
        build("test_resnet", 64)
