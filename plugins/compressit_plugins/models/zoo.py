"""Architectures of other libraries, fitted to the data: classes, channels and size of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from compressit import CompressitError, did_you_mean
from compressit_plugins.models.nets import image_shape


def torchvision_net(
    name: str, input_shape: Sequence[int], classes: int, dropout: float | None = None
) -> nn.Module:
    """Images (N, C, H, W) to logits (N, classes): `torchvision.models.<name>` with fresh weights.

    The weights are torchvision's own initialisation, but torch's default in googlenet and inception_v3 (whose
    own is slow, and leaves torchvision by its own warning) and in the first convolution where C is not 3.
    These two have no auxiliary heads. Vision transformers are made for H x W. Raises CompressitError for a
    `dropout` the architecture has not, and images it does not take.
    """
    from torchvision import models

    channels, height, width = image_shape(name, input_shape)
    options = _options(name, height, width) | ({} if dropout is None else {"dropout": dropout})
    try:
        net = models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        if "'dropout'" in str(error):
            raise CompressitError(f"{name} has no dropout to set", "leave the option out") from error
        raise CompressitError(f"{name} cannot be built for images of {height} x {width}: {error}") from error
    if channels != 3:
        _take_channels(net, channels)
    least = next(iter(models.get_model_weights(name))).meta["min_size"]
    small = height < least[0] or width < least[1]
    hint = f"torchvision names {least[0]} x {least[1]} as its smallest images" if small else None
    _check_runs(net, name, input_shape, hint)
    return net


def timm_net(name: str, input_shape: Sequence[int], classes: int) -> nn.Module:
    """Images (N, C, H, W) to logits (N, classes): timm's architecture with fresh weights, made for H x W where
    it is made for one size.

    Raises CompressitError when timm is not installed, for an unknown name, and for images it does not take.
    """
    try:
        import timm
    except ImportError as error:
        hint = "install compressit[timm]: `pip install 'compressit[timm]'`"
        raise CompressitError("model.timm needs timm, which is not installed", hint) from error
    if not timm.is_model(name):
        raise CompressitError(f"timm has no architecture '{name}'", did_you_mean(name, timm.list_models()))
    channels, height, width = image_shape(name, input_shape)
    known = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": (height, width)} if known and known.fixed_input_size else {}
    try:
        net = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **options)
    except Exception as error:
        shape, reason = f"{channels} x {height} x {width}", f"{type(error).__name__}: {error}"
        raise CompressitError(f"timm cannot build {name} for inputs of {shape}: {reason}") from error
    _check_runs(net, name, input_shape, None)
    return net


def _options(name: str, height: int, width: int) -> dict[str, Any]:
    """What an architecture is told beside its classes."""
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        if height != width or height % patch:
            raise CompressitError(
                f"{name} takes square images whose side is a multiple of {patch}, not {height} x {width}"
            )
        return {"image_size": height}
    if name.startswith("maxvit"):
        return {"input_size": (height, width)}
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": False}
    return {}


def _take_channels(net: nn.Module, channels: int) -> None:
    """Puts a convolution of the same kind, for that many channels, in place of the first."""
    path, old = next((path, m) for path, m in net.named_modules() if isinstance(m, nn.Conv2d))
    same: dict[str, Any] = {n: getattr(old, n) for n in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **same)
    parent, _, attribute = path.rpartition(".")
    setattr(net.get_submodule(parent), attribute, new)


def _check_runs(net: nn.Module, name: str, input_shape: Sequence[int], hint: str | None) -> None:
    """Raises CompressitError unless the net takes an image of this shape; costs no arithmetic if it does."""
    state = {key: tensor.to("meta") for key, tensor in (*net.named_parameters(), *net.named_buffers())}
    net.eval()
    try:
        with torch.no_grad():
            try:
                functional_call(net, state, (torch.empty(1, *input_shape, device="meta"),))
            except Exception:  # noqa: BLE001 - not everything that runs on a CPU runs without values
                net(torch.zeros(1, *input_shape))
    except Exception as error:
        shape = " x ".join(map(str, input_shape))
        raise CompressitError(f"{name} does not take inputs of {shape}: {error}", hint) from error
    finally:
        net.train()
