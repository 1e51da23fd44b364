"""The weights that torchvision and timm publish for their architectures. Both keep downloads in their own caches."""

from __future__ import annotations

from typing import Any

from compressit import CompressitError, Pretrained, TensorSpec, did_you_mean
from compressit_plugins.models.zoo import timm_with

_REMAPPED = ("googlenet", "inception_v3")
"""Their weights take pixels scaled to -1..1; torchvision computes that inside the net from ImageNet's scale."""


def torchvision_pretrained(name: str) -> Pretrained:
    """torchvision's default weights of a classification architecture, without auxiliary heads."""
    from torchvision import models

    known: Any = models.get_model_weights(name)
    weights = known.DEFAULT
    preset = weights.transforms()
    # as torchvision itself loads them, with its conversions of old names
    state = models.get_model(name, weights=weights, progress=False).state_dict()
    names = tuple(weights.meta["categories"])
    half = (0.5, 0.5, 0.5)
    return Pretrained(
        tensors={key: value for key, value in state.items() if not key.lower().startswith("aux")},
        inputs=TensorSpec((3, preset.crop_size[0], preset.crop_size[0])),
        outputs=len(names),
        mean=half if name in _REMAPPED else tuple(preset.mean),
        std=half if name in _REMAPPED else tuple(preset.std),
        class_names=names,
    )


def timm_pretrained(name: str) -> Pretrained:
    """timm's weights of that name; without a tag, its default ones. Raises CompressitError if it has none."""
    timm: Any = timm_with(name)
    known = timm.get_pretrained_cfg(name)
    if known is None or not known.has_weights:
        hint = did_you_mean(name, timm.list_pretrained())
        raise CompressitError(f"timm has no weights for '{name}'", hint)
    if not known.num_classes:
        raise CompressitError(f"timm's weights for '{name}' have no classes", "use those of a classifier")
    net = timm.create_model(name, pretrained=True)
    inputs = timm.data.resolve_data_config({}, model=net)
    return Pretrained(
        tensors=net.state_dict(),
        inputs=TensorSpec(tuple(inputs["input_size"])),
        outputs=net.num_classes,
        mean=tuple(inputs["mean"]),
        std=tuple(inputs["std"]),
        class_names=_class_names(timm, net),
    )


def _class_names(timm: Any, net: Any) -> tuple[str, ...]:
    subset = timm.data.infer_imagenet_subset(net)
    names = tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else ()
    return names if len(names) == net.num_classes else ()
