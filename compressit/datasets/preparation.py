"""Carries out the options that every dataset has: limit, scale, augmentation, pixels, labels, validation split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compressit.datasets.augmentation import Step
from compressit.datasets.batched import InputTensors, each_tensor, only, tensors_of
from compressit.datasets.conforming import inferred
from compressit.datasets.options import DataConfig, known_doubts
from compressit.datasets.pixels import Pixels, row
from compressit.datasets.sources import CALLED, Examples, Source, Sources, raw_batches, targets_of
from compressit.datasets.specs import Inputs, TensorSpec
from compressit.datasets.splits import Data, InMemory, InputSpec, Relabelled, Sourced, Split
from compressit.datasets.statistics import channel_scaling
from compressit.datasets.subsets import lacking, limited, validation_cut
from compressit.errors import CompressitError
from compressit.seeds import Streams

MOST_FLOATS = 2**30
"""Bytes of a split's inputs as float32. A larger one stays uint8 on the device and becomes float batch by batch."""

NO_CLASSES = (
    "`labels: random` draws classes, and the targets of these data are none",
    "use `labels: shuffled`",
)

MOST_NAMED = 3  # examples left out that a doubt names


def prepare(
    sources: Sources,
    options: DataConfig,
    classes: int,
    class_names: tuple[str, ...],
    device: str = "cpu",
    like: InputSpec | None = None,
    labelled: bool = True,
    inputs: Inputs | None = None,
) -> Data:
    """The splits of a dataset as its options want them. `inputs`: what it declares; by default what they seem to be.

    `labelled`: whether targets are labels, one of `classes` per example, so that a part of the examples can be one of
    every class. Other targets are numbers or images, and parts are plain ones; then `classes` counts their outputs.

    Statistics are those of the training examples left when the validation split is cut. `like`: a model's
    contract, by whose statistics inputs are scaled instead of the data's own. Raises CompressitError when the
    validation split would have no example or leave no training example, and for options that need all inputs in
    memory where they are not.
    """
    streams = Streams(options.seed)
    train, test, validation = sources.train, sources.test, sources.validation
    given = targets_of(train)
    strata = given if labelled else torch.zeros(len(given), dtype=torch.int64)  # all alike
    chosen = limited(strata, options.limit)
    labels, replaced = _labels(given[chosen], options, classes if labelled else None, streams)
    kept, held = validation_cut(strata[chosen], options, streams)
    if held is not None and validation is not None:
        raise CompressitError(
            f"the data have a validation split of their own, and `validation: {options.validation:g}` cuts another",
            "leave out one of the two",
        )
    contract = _contract(sources, chosen[kept], options, class_names, like, inputs or inferred(sources))
    places = _Places(options, contract, device, streams)
    splits = {"train": places.split(train, chosen[kept], labels[kept], trains=True)}
    if held is not None:
        splits["validation"] = places.split(train, chosen[held], labels[held])
    for name, examples in (("validation", validation), ("test", test)):
        if examples is not None:
            y = targets_of(examples)
            splits[name] = places.split(examples, torch.arange(len(y)), y)
    if options.pixels == "gaussian":
        splits = _gaussian(splits, kept, held, streams)
    told = {"train": "training"}
    counted = {told.get(name, name): split.y.cpu() for name, split in splits.items()}
    relabelled = Relabelled(replaced[kept].to(device), given[chosen[kept]].to(device))
    return Data(
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        classes=classes,
        contract=contract,
        doubts=(
            *known_doubts(options, len(given.unique()) if labelled else 1, len(given)),
            *(lacking(counted, classes, class_names) if labelled else ()),
            *_left_out(sources),
        ),
        relabelled=None if options.labels == "given" else relabelled,
    )


def _left_out(sources: Sources) -> Iterator[str]:
    """A line for each split that lacks examples, because they could not be read."""
    for name, examples in sources.given().items():
        if isinstance(examples, Source) and examples.left_out:
            first = "; ".join(examples.left_out[:MOST_NAMED]) + (
                "; …" if len(examples.left_out) > MOST_NAMED else ""
            )
            count = len(examples.left_out)
            yield f"{count:,} of {count + len(examples.targets):,} {CALLED[name]} examples are left out: {first}"


@dataclass(frozen=True)
class _Places:
    """Where the examples of one variant lie, and what is done to them on their way to a model."""

    options: DataConfig
    contract: InputSpec
    device: str
    streams: Streams

    def split(self, examples: Examples, at: Tensor, y: Tensor, trains: bool = False) -> Split:
        """Those at `at` (n,) int64, sorted, with targets y (n, ...); `trains`: augmented in training."""
        pixels = self._pixels(self.options.augment if trains else ())
        y = y.to(self.device)
        if isinstance(examples, Source):
            return Sourced(examples, at, y, self.streams, pixels)
        inputs = examples[0] if len(at) == len(examples[1]) else each_tensor(examples[0], lambda x: x[at])
        large = any(x.dtype == torch.uint8 and 4 * x.numel() > MOST_FLOATS for x in tensors_of(inputs))
        if pixels.augment or large:
            return InMemory(self._there(inputs), y, self.streams, pixels)
        on_cpu = self._pixels((), "cpu")
        return InMemory(self._there(on_cpu(inputs)), y, self.streams)

    def _there(self, inputs: InputTensors) -> InputTensors:
        return each_tensor(inputs, lambda x: x.to(self.device))

    def _pixels(self, augment: tuple[Step, ...], device: str | None = None) -> Pixels:
        device = device or self.device
        inputs, mean, std = self.contract.inputs, self.contract.mean, self.contract.std
        if not isinstance(inputs, TensorSpec):
            return Pixels()
        ndim = len(inputs.shape) + 1
        scaling = {} if mean is None or std is None else {
            "mean": row(mean, ndim, device), "std": row(std, ndim, device)
        }  # fmt: skip
        permutation = None
        if self.options.pixels == "shuffled":  # Zhang et al. 2017, section 2
            permutation = torch.randperm(inputs.values, generator=self.streams.generator("pixels"))
            permutation = permutation.to(device)
        return Pixels(augment, permutation=permutation, **scaling)


def _contract(
    sources: Sources,
    kept: Tensor,
    options: DataConfig,
    class_names: tuple[str, ...],
    like: InputSpec | None,
    inputs: Inputs,
) -> InputSpec:
    """How inputs are scaled: as `like` says, else as the options do."""
    if like is not None:
        return InputSpec(inputs, like.scale, like.mean, like.std, class_names)
    if options.scale == "unit":
        return InputSpec(inputs, "unit", None, None, class_names)
    given = options.given_scale
    if given is not None:
        return InputSpec(inputs, "standard", given.mean, given.std, class_names)
    raw = raw_batches(sources.train, kept)
    mean, std = channel_scaling(x for x in raw if isinstance(x, Tensor))  # `input_fault` refuses other inputs
    return InputSpec(inputs, "standard", mean, std, class_names)


def _gaussian(
    splits: Mapping[str, Split], kept: Tensor, held: Tensor | None, streams: Streams
) -> dict[str, Split]:
    """Noise with the mean and standard deviation of the training pixels (Zhang et al. 2017, section 2)."""
    if isinstance(splits["train"], Sourced):
        raise CompressitError(
            "`pixels: gaussian` draws all inputs into memory, and those of these data are read from a file",
            "use `pixels: shuffled`, or a dataset whose examples are tensors in memory",
        )
    seen = only(splits["train"].x, "`pixels: gaussian`").cpu()
    mean, std = seen.mean(), seen.std(correction=min(1, seen.numel() - 1))  # of one value 0, not NaN
    device = splits["train"].y.device

    def drawn(count: int, name: str) -> Tensor:
        return torch.randn(count, *seen.shape[1:], generator=streams.generator(name)) * std + mean

    train = drawn(len(kept) + (0 if held is None else len(held)), "gaussian-train")
    inputs = {"train": train[kept]}
    if held is not None:
        inputs["validation"] = train[held]
    for name in splits.keys() - inputs.keys():
        inputs[name] = drawn(len(splits[name]), f"gaussian-{name}")
    return {name: InMemory(inputs[name].to(device), split.y, streams) for name, split in splits.items()}


def _labels(y: Tensor, options: DataConfig, classes: int | None, streams: Streams) -> tuple[Tensor, Tensor]:
    """The targets, and which of them were replaced, (N,) bool. `classes`: None where targets are no labels."""
    replaced = torch.zeros(len(y), dtype=torch.bool)
    if options.labels == "given":
        return y, replaced
    generator = streams.generator("labels")
    chosen = torch.randperm(len(y), generator=generator)[: round(options.label_fraction * len(y))]
    y = y.clone()
    replaced[chosen] = True
    if options.labels == "shuffled":
        y[chosen] = y[chosen[torch.randperm(len(chosen), generator=generator)]]
    elif classes is not None:
        y[chosen] = torch.randint(classes, (len(chosen),), generator=generator)
    else:
        raise CompressitError(*NO_CLASSES)
    return y, replaced
