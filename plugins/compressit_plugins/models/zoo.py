"""Architectures of other libraries, adapted to the data: classes, channels and image size."""

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
    """`torchvision.models.<name>` with fresh weights: maps images (N, C, H, W) to logits (N, classes).

    Weights have torchvision's initialisation, with two exceptions that use torch's default: googlenet and inception_v3
    (their own is slow, and torchvision warns that it will go), and the first convolution if C is not 3.
    Googlenet and inception_v3 have no auxiliary heads. Vision transformers are built for H x W. Raises CompressitError
    for `dropout` if the architecture has none, and for images that it does not support.
    """
    from torchvision import models

    channels, height, width = image_shape(name, input_shape)
    options = _options(name, height, width) | ({} if dropout is None else {"dropout": dropout})
    try:
        net = models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        if "'dropout'" in str(error):
            raise CompressitError(f"{name} has no dropout", "remove the option `dropout`") from error
        raise CompressitError(f"{name} cannot be built for images of {height} x {width}: {error}") from error
    if channels != 3:
        _take_channels(net, channels)
    least = next(iter(models.get_model_weights(name))).meta["min_size"]
    small = height < least[0] or width < least[1]
    hint = f"the smallest images according to torchvision are {least[0]} x {least[1]}" if small else None
    _check_runs(net, name, input_shape, hint)
    return net


def timm_net(name: str, input_shape: Sequence[int], classes: int) -> nn.Module:
    """timm's architecture with fresh weights: maps images (N, C, H, W) to logits (N, classes). An architecture with a
    fixed input size is built for H x W.

    Raises CompressitError if timm is not installed, for an unknown name, and for unsupported images.
    """
    timm = timm_with(name)
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


def timm_with(name: str) -> Any:
    """The package timm. Raises CompressitError if it is not installed, or has no architecture of this name."""
    try:
        import timm
    except ImportError as error:
        hint = "install compressit[timm]: `pip install 'compressit[timm]'`"
        raise CompressitError("model.timm needs timm, which is not installed", hint) from error
    if not timm.is_model(name):
        raise CompressitError(f"timm has no architecture '{name}'", did_you_mean(name, timm.list_models()))
    return timm


def _options(name: str, height: int, width: int) -> dict[str, Any]:
    """Arguments of an architecture besides the number of classes."""
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
    """Replaces the first convolution by the same for `channels` input channels."""
    path, old = next((path, m) for path, m in net.named_modules() if isinstance(m, nn.Conv2d))
    same: dict[str, Any] = {n: getattr(old, n) for n in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **same)
    parent, _, attribute = path.rpartition(".")
    setattr(net.get_submodule(parent), attribute, new)


def _check_runs(net: nn.Module, name: str, input_shape: Sequence[int], hint: str | None) -> None:
    """Raises CompressitError unless the net accepts an image of this shape. Tries meta tensors first, which is fast."""
    state = {key: tensor.to("meta") for key, tensor in (*net.named_parameters(), *net.named_buffers())}
    net.eval()
    try:
        with torch.no_grad():
            try:
                functional_call(net, state, (torch.empty(1, *input_shape, device="meta"),))
            except Exception:  # noqa: BLE001 - some nets run on a CPU but not on meta tensors
                net(torch.zeros(1, *input_shape))
    except Exception as error:
        shape = " x ".join(map(str, input_shape))
        raise CompressitError(f"{name} does not take inputs of {shape}: {error}", hint) from error
    finally:
        net.train()
