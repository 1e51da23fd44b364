"""Data as tensors on the device: what datasets load, how the host prepares it, what plugins read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressit.datasets.batching import batch_sizes
from compressit.datasets.options import DataConfig, known_doubts, validation_fault
from compressit.errors import CompressitError
from compressit.seeds import Streams

Index = slice | Tensor
ALIGNMENT = 64
"""Alignment, in bytes, of memory that torch allocates."""


@dataclass(frozen=True)
class RawData:
    """What a dataset loads: inputs (N, *shape) as uint8 in 0..255 or float in 0..1, labels (N,) int64.

    Raises CompressitError for other types, lengths or ranges.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def __post_init__(self) -> None:
        for split, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            fault = _fault(x, y)
            if fault:
                raise CompressitError(
                    f"the dataset's {split} {fault}",
                    "inputs must be uint8 in 0..255 or float in 0..1, of shape (N, *shape); labels int64 (N,). To "
                    "standardise inputs, use the option `scale: standard`",
                )


@dataclass(frozen=True)
class InputSpec:
    """How a model's inputs are made. Saved in its checkpoint, so that new inputs can be made the same way."""

    shape: tuple[int, ...]  # without the batch dimension
    scale: str  # "unit" or "standard"
    mean: tuple[float, ...] | None  # per channel, of pixels in 0..1; None for "unit"
    std: tuple[float, ...] | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of flattened inputs, float32."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Split:
    """Inputs x (N, *shape) float32 and labels y (N,) int64, both on the device."""

    x: Tensor
    y: Tensor
    streams: Streams

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """All inputs and labels, in their stored order."""
        return self.x, self.y

    def batches(self, size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, in the epoch's random order."""
        for index in in_batches(order(len(self), self.streams, epoch, self.x.device), size):
            yield self.x[index], self.y[index]

    def statistics(self) -> Statistics:
        """Mean and covariance (divided by N - 1) of the flattened inputs, accumulated in float64."""
        flat = self.x.flatten(1)
        mean = flat.mean(0, dtype=torch.float64)
        count, width = flat.shape
        gram = torch.zeros(width, width, dtype=torch.float64, device=flat.device)
        for part in flat.split(8192):
            centred = part.double() - mean
            gram += centred.T @ centred
        return Statistics(mean.float(), (gram / max(count - 1, 1)).float())


@dataclass(frozen=True)
class Data:
    """The splits of one variant. `validation` is None unless the recipe asks for it."""

    train: Split
    validation: Split | None
    test: Split
    classes: int
    contract: InputSpec
    doubts: tuple[str, ...] = ()  # reasons to doubt results on these data: classes that a split lacks

    def with_streams(self, streams: Streams) -> Data:
        """The same tensors, shuffled by another stage's streams."""
        parts = {
            name: replace(split, streams=streams)
            for name in ("train", "validation", "test")
            if (split := getattr(self, name)) is not None
        }
        return replace(self, **parts)


def order(count: int, streams: Streams, epoch: int, device: torch.device | str = "cpu") -> Tensor:
    """The order (count,) int64 in which an epoch visits its examples, always drawn on the CPU."""
    return torch.randperm(count, generator=streams.generator("order", epoch)).to(device)


def in_batches(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Splits `values` (N, ...) along the first dimension into batches, with sizes from `batch_sizes`. Every loop over
    batches uses this function."""
    return values.split(batch_sizes(len(values), size))


def prepare(
    raw: RawData,
    options: DataConfig,
    classes: int,
    class_names: tuple[str, ...],
    device: str = "cpu",
    like: InputSpec | None = None,
) -> Data:
    """Applies a dataset's options: limit, scale, pixels, labels, validation split.

    Statistics are computed from the training images without the validation split. `like`: a model's input contract,
    whose statistics are used instead.
    Raises CompressitError if the validation split would be empty or leave no training image.
    """
    streams = Streams(options.seed)
    chosen = _limited(raw.train_y, options.limit)
    train_x, train_y = raw.train_x[chosen], raw.train_y[chosen]
    train_x, test_x = _unit(train_x), _unit(raw.test_x)
    kept, held = _validation(train_y, options, streams)
    scale = like.scale if like else options.scale
    mean, std = (like.mean, like.std) if like else _statistics(train_x[kept], scale)
    train_x, test_x = _scaled(train_x, mean, std), _scaled(test_x, mean, std)
    train_x, test_x = _pixels(train_x, test_x, kept, options, streams)
    train_y = _labels(train_y, options, classes, streams)
    contract = InputSpec(tuple(train_x.shape[1:]), scale, mean, std, class_names)
    validation = {} if held is None else {"validation": train_y[held]}
    labels = {"training": train_y[kept], **validation, "test": raw.test_y}

    def split(x: Tensor, y: Tensor, at: Index) -> Split:
        return Split(x[at].to(device), y[at].to(device), streams)

    return Data(
        train=split(train_x, train_y, kept),
        validation=None if held is None else split(train_x, train_y, held),
        test=split(test_x, raw.test_y, slice(None)),
        classes=classes,
        contract=contract,
        doubts=(
            *known_doubts(options, len(raw.train_y.unique()), len(raw.train_y)),
            *_lacking(labels, classes, class_names),
        ),
    )


def _fault(x: Tensor, y: Tensor) -> str | None:
    """What is wrong with a loaded split, or None."""
    for name, value in (("inputs", x), ("labels", y)):
        if not isinstance(value, Tensor):
            return f"{name} are a {type(value).__name__}, not a tensor"
        if value.is_meta or value.is_nested or value.layout is not torch.strided:
            kind = "on the device meta" if value.is_meta else "nested" if value.is_nested else value.layout
            return f"{name} are {kind}, so their values cannot be read"
    if y.dtype != torch.int64 or y.ndim != 1:
        return f"labels are {y.dtype} of shape {tuple(y.shape)}"
    if len(x) != len(y) or len(x) == 0:
        return f"split has {len(x)} inputs and {len(y)} labels"
    if x.ndim < 2 or x.numel() == 0:
        return f"inputs have shape {tuple(x.shape)}"
    if x.dtype == torch.uint8:
        return None
    if not x.is_floating_point():
        return f"inputs are {x.dtype}"
    low, high = (float(value) for value in x.detach().float().aminmax())  # float8 has no aminmax
    return None if low >= 0 and high <= 1 else f"inputs go from {low:g} to {high:g}"  # also if NaN


def _limited(y: Tensor, limit: int | None) -> Index:
    """Indices of the images that `limit` keeps, in their old order: the first ones.

    If the first ones lack a class of the split (data sorted by class), takes the first of every class instead: at
    least one, the rest in proportion, by largest remainders. A limit below the number of classes keeps the first
    images.
    """
    first = slice(limit)
    labels, counts = y.unique(return_counts=True)
    if limit is None or limit >= len(y) or limit < len(labels) or len(y[first].unique()) == len(labels):
        return first
    takes = 1 + _shares(counts - 1, limit - len(labels))
    parts = [(y == label).nonzero()[:take, 0] for label, take in zip(labels, takes.tolist(), strict=True)]
    return torch.cat(parts).sort().values


def _shares(sizes: Tensor, total: int) -> Tensor:
    """Splits `total` into parts (K,) proportional to `sizes` (K,) int64, by largest remainders; none above its size."""
    whole = max(int(sizes.sum()), 1)
    shares, remainders = total * sizes // whole, total * sizes % whole
    shares[remainders.argsort(descending=True, stable=True)[: total - int(shares.sum())]] += 1
    return shares


def _lacking(splits: Mapping[str, Tensor], classes: int, class_names: Sequence[str]) -> Iterator[str]:
    """A line for each split whose labels (N,) lack a class."""
    for split, labels in splits.items():
        there = set(labels.unique().tolist())
        missing = [label for label in range(classes) if label not in there]
        if missing:
            names = [class_names[c] if c < len(class_names) else str(c) for c in missing[:5]]
            shown = ", ".join(names) + (", …" if len(missing) > 5 else "")
            yield f"no {split} example has {len(missing)} of the {classes} classes: {shown}"


def _unit(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    x = x.detach()
    # A dataset's memory may come from a file map or numpy. Kernels, and so the last bits, depend on its alignment.
    return x.float() if x.data_ptr() % ALIGNMENT == 0 else x.to(torch.float32, copy=True)


def _statistics(x: Tensor, scale: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation per channel (the dimension after the batch); None if nothing is scaled."""
    if scale == "unit":
        return None, None
    dims = [0, *range(2, x.ndim)]
    mean = x.mean(dims, dtype=torch.float64)
    std = x.double().std(dims, correction=0)
    std = torch.where(std > 1e-6, std, 1.0)  # a constant channel is only centred
    return tuple(mean.tolist()), tuple(std.tolist())


def _scaled(x: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
    if mean is None or std is None:
        return x
    view = (1, -1, *[1] * (x.ndim - 2))
    return (x - torch.tensor(mean).view(view)) / torch.tensor(std).view(view)


def _pixels(
    train: Tensor, test: Tensor, kept: Index, options: DataConfig, streams: Streams
) -> tuple[Tensor, Tensor]:
    """Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", section 2."""
    if options.pixels == "shuffled":
        permutation = torch.randperm(train[0].numel(), generator=streams.generator("pixels"))
        return (
            train.flatten(1)[:, permutation].view_as(train),
            test.flatten(1)[:, permutation].view_as(test),
        )
    if options.pixels == "gaussian":
        seen = train[kept]
        mean, std = (
            seen.mean(),
            seen.std(correction=min(1, seen.numel() - 1)),
        )  # 0 for a single value, not NaN

        def drawn(like: Tensor, name: str) -> Tensor:
            return torch.randn(like.shape, generator=streams.generator(name)) * std + mean

        return drawn(train, "gaussian-train"), drawn(test, "gaussian-test")
    return train, test


def _labels(y: Tensor, options: DataConfig, classes: int, streams: Streams) -> Tensor:
    if options.labels == "given":
        return y
    generator = streams.generator("labels")
    chosen = torch.randperm(len(y), generator=generator)[: round(options.label_fraction * len(y))]
    y = y.clone()
    if options.labels == "random":
        y[chosen] = torch.randint(classes, (len(chosen),), generator=generator)
    else:
        y[chosen] = y[chosen[torch.randperm(len(chosen), generator=generator)]]
    return y


def _validation(y: Tensor, options: DataConfig, streams: Streams) -> tuple[Index, Tensor | None]:
    """Indices of the training and the validation images, both in their old order. `y`: labels of all images."""
    if fault := validation_fault(options, len(y)):
        raise CompressitError(
            f"the data's `validation: {options.validation:g}` {fault}", "change `validation` or `limit`"
        )
    wanted = options.validation_count(len(y))
    if wanted == 0:
        return slice(None), None
    held = torch.zeros(len(y), dtype=torch.bool)
    held[_held_out(y, wanted, torch.randperm(len(y), generator=streams.generator("validation")))] = True
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _held_out(y: Tensor, wanted: int, permutation: Tensor) -> Tensor:
    """Indices of the images to hold out: the first `wanted` of the permutation.

    If then one split lacks a class that both could have, takes the first of every class in proportion instead. Each
    class keeps at least one training image. If a split is too small for all classes, this is not attempted.
    """
    labels, counts = y.unique(return_counts=True)
    shared, drawn, first = labels[counts > 1], y[permutation], permutation[:wanted]
    complete = len(drawn[wanted:].unique()) == len(labels) and bool(torch.isin(shared, y[first]).all())
    if complete or not len(shared) <= wanted <= len(y) - len(labels):
        return first
    takes = 1 + _shares(counts[counts > 1] - 2, wanted - len(shared))
    parts = [(drawn == label).nonzero()[:take, 0] for label, take in zip(shared, takes.tolist(), strict=True)]
    return permutation[torch.cat(parts)]
