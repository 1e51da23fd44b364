"""`compressit import FILE --model NAME`: a file's weights as a checkpoint that says what network they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import Tensor

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint import weights
from compressit.checkpoint.builders import builder_of
from compressit.config import Config, dump
from compressit.datasets.options import IMAGENET, Scale
from compressit.datasets.specs import TensorSpec
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host


class Told(Config):
    """What a file of weights does not say itself."""

    input: tuple[PositiveInt, ...] = Field(min_length=1, description="the shape of one input, like 3x32x32")
    classes: PositiveInt | None = Field(
        default=None, description="default: the length of the file's last tensor"
    )
    scale: Literal["unit", "imagenet"] | Scale = Field(
        default="unit",
        description="how the inputs of its training were scaled: `unit` (0 to 1), `imagenet`, or "
        "`{mean: […], std: […]}` of pixels from 0 to 1",
    )

    @field_validator("scale")
    @classmethod
    def _has_a_number_per_channel(cls, scale: Any, info: ValidationInfo) -> Any:
        given = Scale(mean=IMAGENET[0], std=IMAGENET[1]) if scale == "imagenet" else scale
        channels = (info.data.get("input") or (None,))[0]
        if isinstance(given, Scale) and channels is not None and len(given.mean) not in (1, channels):
            raise ValueError(f"has {len(given.mean)} numbers, and inputs have {channels} channels")
        return given


@dataclass(frozen=True)
class Described:
    """The network of a file's weights: a model plugin, its options, and what is told beside the file."""

    plugin: str
    options: Mapping[str, Any]
    told: Told
    host: Host

    def write(self, tensors: Mapping[str, Tensor], target: Path) -> None:
        """Writes the checkpoint. Raises CompressitError, and writes nothing, for weights that do not fit the network,
        by names and shapes, and for a network that does not run on such inputs."""
        classes = self.told.classes or _length(tensors)
        builder = builder_of(self.plugin, self.options, self.host)
        inputs = TensorSpec(tuple(self.told.input))
        architecture = checkpoint.Architecture(self.plugin, dump(builder.config), inputs, classes)
        net = checkpoint.build(architecture, self.host)
        try:
            weights.put(net, tensors, (), self.plugin)
        except CompressitError as error:
            made = f"{self.plugin} for inputs of {' x '.join(map(str, inputs.shape))} and {classes} classes"
            raise CompressitError(
                f"{error.message}\nthe model is {made}",
                "its options are --set NAME=VALUE, its inputs --input, its outputs --classes",
            ) from error
        checkpoint.save(net, target, architecture, self._contract(inputs, classes), self.host)

    def for_other_classes(self, tensors: Mapping[str, Tensor], target: Path) -> str:
        """How a recipe starts from the checkpoint `target` with a new head."""
        classes = self.told.classes or _length(tensors)
        config = builder_of(self.plugin, self.options, self.host).config
        chosen = config.model_dump(mode="json", exclude_defaults=True)
        return with_fresh_head(self.plugin, chosen, target, tensors, classes)

    def _contract(self, inputs: TensorSpec, classes: int) -> InputSpec:
        scale, names = self.told.scale, tuple(map(str, range(classes)))
        if isinstance(scale, Scale):
            return InputSpec(inputs, "standard", scale.mean, scale.std, names)
        return InputSpec(inputs, "unit", None, None, names)


def with_fresh_head(
    plugin: str, options: Mapping[str, Any], file: Path, tensors: Mapping[str, Tensor], classes: int
) -> str:
    """A recipe's `model` that takes the weights of a file but for its last layers, those with a row for each class."""
    layers = {name.rpartition(".")[0]: tensor.shape[:1] == (classes,) for name, tensor in tensors.items()}
    head = list(takewhile(lambda layer: layers[layer], reversed(layers)))[::-1]
    fresh = json.dumps([f"{layer}.*" for layer in head])
    given = ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()
    )
    chosen = f" with: {{{given}}}," if given else ""
    return f"{{uses: {plugin},{chosen} weights: {{file: {file.name}, fresh: {fresh}}}}}"


def _length(tensors: Mapping[str, Tensor]) -> int:
    """Of the last tensor: of most nets that is the bias of the output layer."""
    return next((len(tensor) for tensor in reversed(tensors.values()) if tensor.ndim), 1)  # type: ignore[call-overload]
