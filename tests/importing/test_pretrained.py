"""A library's own weights as a self-describing checkpoint. No test downloads: the libraries' caches are filled here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torchvision import models

from compressit import Config, Model, Pretrained
from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.contract.kinds import Model as AnyModel
from compressit.datasets.specs import Inputs, TensorSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host, Source
from compressit.importing.pretrained import import_pretrained

HOST = Host()  # the built-in plugins, though the core's tests go without
SMALL = "shufflenet_v2_x0_5"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub would have put the weights of `SMALL`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    weights: Any = models.get_model_weights(SMALL)
    return folder / Path(weights.DEFAULT.url).name


def test_torchvisions_weights_come_with_all_a_recipe_must_know(cached: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = models.get_model(SMALL, weights=None)
    torch.save(net.state_dict(), cached)
    target = tmp_path / "x.safetensors"
    said = import_pretrained("torchvision", SMALL, target, HOST)
    loaded = checkpoint.load(target, host=HOST, probe=False)
    x = torch.rand(1, 3, 224, 224)
    assert torch.equal(loaded(x), net.eval()(x))
    inputs = read_header(target).manifest.input
    assert inputs is not None
    assert (inputs.scale, inputs.mean, inputs.std) == (
        "standard",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    assert (inputs.shape, inputs.class_names[:1], len(inputs.class_names)) == (
        (3, 224, 224),
        ("tench",),
        1000,
    )
    assert "model: {from: x.safetensors}" in said[-2]
    assert 'fresh: ["fc.*"]' in said[-1]


def test_a_library_cannot_unpickle_more_than_weights(cached: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"fc.bias": Evil()}, cached)
    before = dict(os.environ)
    with pytest.raises(
        CompressitError, match=r"model\.torchvision could not get its weights: .*Weights only load"
    ):
        import_pretrained("torchvision", SMALL, tmp_path / "x.safetensors", HOST)
    assert not (tmp_path / "ran").exists()
    assert dict(os.environ) == before


def test_without_a_network_it_says_so(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*given: Any, **options: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(CompressitError, match="Name or service not known") as caught:
        import_pretrained("torchvision", SMALL, tmp_path / "x.safetensors", HOST)
    assert "needs a network" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_where_torchvision_scales_inside_the_net_our_data_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs: Any = models.get_model(name, weights=None, init_weights=False, transform_input=True)
    monkeypatch.setattr(models, "get_model", _instead(models.get_model, theirs))
    target = tmp_path / "x.safetensors"
    import_pretrained("torchvision", name, target, HOST)
    net, inputs = checkpoint.load(target, host=HOST, probe=False), read_header(target).manifest.input
    assert inputs is not None
    assert inputs.mean is not None
    assert inputs.std is not None
    pixels = torch.rand(1, *inputs.shape)
    imagenet = _scaled(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        wanted, got = theirs.eval()(imagenet), net(_scaled(pixels, inputs.mean, inputs.std))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.extra("timm")
def test_timms_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm: Any = pytest.importorskip("timm")
    builder = pytest.importorskip("timm.models._builder")
    torch.manual_seed(5)
    net = timm.create_model("test_resnet")
    seen: list[str | None] = []

    def local(*given: Any, **options: Any) -> Any:
        seen.append(os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))
        return net.state_dict()

    monkeypatch.setattr(builder, "load_state_dict_from_hf", local)
    target = tmp_path / "x.safetensors"
    import_pretrained("timm", "test_resnet", target, HOST)
    assert seen == ["1"]
    inputs = read_header(target).manifest.input
    assert inputs is not None
    assert (inputs.shape, inputs.mean, len(inputs.class_names)) == ((3, 160, 160), (0.5, 0.5, 0.5), 1000)
    x = torch.rand(1, 3, 160, 160)
    assert torch.equal(checkpoint.load(target, host=HOST, probe=False)(x), net.eval()(x))


@pytest.mark.extra("timm")
def test_a_timm_architecture_without_weights(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm")
    name = next(n for n in timm.list_models() if not (timm.get_pretrained_cfg(n) or _None).has_weights)
    with pytest.raises(CompressitError, match="timm has no weights for"):
        import_pretrained("timm", name, tmp_path / "x.safetensors", HOST)


class _None:
    has_weights = False


@pytest.mark.parametrize(
    ("library", "name", "words"),
    [
        ("mlp", "x", r"model\.mlp has no weights of its own"),
        ("hub", "x", r"no model is called 'model\.hub'"),
        ("torchvision", "resnt18", "did you mean 'resnet18'"),
    ],
)
def test_what_cannot_be_imported(library: str, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CompressitError, match=words):
        import_pretrained(library, name, tmp_path / "x.safetensors", HOST)


class _Options(Config):
    name: str


class _Own(Model[_Options]):
    """A third party's."""

    name: ClassVar[str] = "model.own"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, outputs))

    def pretrained(self) -> Pretrained | None:
        if self.config.name == "none":
            return None
        size = 3 if self.config.name == "small" else 12
        return Pretrained(
            {"1.weight": torch.ones(5, size), "1.bias": torch.ones(5)},
            TensorSpec((3, 2, 2)),
            5,
            (0.5,),
            (0.5,),
        )


def test_any_model_plugin_may_have_weights(tmp_path: Path) -> None:
    host = Host(entry_points=False)
    plugin: type[AnyModel[Any]] = _Own
    host.add_model(plugin, Source("test"))
    target = tmp_path / "x.safetensors"
    import_pretrained("own", "whole", target, host)
    inputs = read_header(target).manifest.input
    assert inputs is not None
    assert inputs.class_names == ("0", "1", "2", "3", "4")
    with pytest.raises(CompressitError, match="no weights of its own"):
        import_pretrained("own", "none", target, host)
    with pytest.raises(CompressitError, match=r"1\.weight \(5, 3\), not \(5, 12\)"):
        import_pretrained("own", "small", target, host)


def _scaled(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def _instead(real: Any, theirs: nn.Module) -> Any:
    """`get_model` that has these weights."""
    return lambda name, weights=None, **options: (
        theirs if weights is not None else real(name, weights=None, **options)
    )
