"""Examples of somebody's torch Dataset, read by the processes of a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compressit.datasets.batched import InputTensors, built, joined, ordered_as, shapes, specs_in, tensors_of
from compressit.datasets.conforming import tensor_fault
from compressit.datasets.sources import Held, SkipExample, Source
from compressit.datasets.specs import Inputs, TensorSpec, in_words
from compressit.errors import CompressitError, told
from compressit.seeds import draw_from, seeded

Example = tuple[InputTensors, Tensor]
Place = tuple[int, int]  # the index of an example, and the seed that its transforms draw from
AT_ONCE = 64  # examples that are read together
NO_SKIP = "examples with random transforms are told by their numbers: read all of them"
_AGAIN = "make it readable and start again: a training goes on from its last save"
RESIZE = "all inputs must have one shape: let the dataset resize them"


@dataclass(frozen=True)
class Fault:
    """What is wrong with an example."""

    text: str
    hint: str | None = None


@dataclass(frozen=True)
class Read:
    """A batch: inputs (B, *shape) of each tensor, None where every example was left out, and targets (B, ...)."""

    inputs: InputTensors | None
    targets: Tensor
    left_out: list[str]  # why each example that is missing is (SkipExample)


@dataclass(frozen=True)
class Streamed(Source):
    """Training examples that are read anew each time, for their random transforms."""

    draws = True

    name: str  # of the dataset, for messages
    train: Dataset[Any]
    plain: Source  # the same examples without random transforms
    workers: int = 0  # processes that read; 0: this one
    inputs: Inputs | None = None  # as declared

    @property
    def targets(self) -> Tensor:  # type: ignore[override]
        return self.plain.targets

    @property
    def like(self) -> InputTensors:  # type: ignore[override]
        return self.plain.like

    @property
    def known(self) -> InputTensors:
        return self.plain.known

    def with_targets(self, targets: Tensor) -> Streamed:
        return replace(self, plain=self.plain.with_targets(targets))

    def read(
        self, batches: Iterable[Tensor], seeds: Iterable[Tensor] | None = None
    ) -> Iterator[InputTensors]:
        """Raises CompressitError for an example that cannot be read, by its number, for a process that died, and for
        targets that are not those of the examples without transforms: nobody would train on them."""
        if seeds is None:
            yield from self.plain.read(batches)
            return
        places = [
            list(zip(batch.tolist(), drawn.tolist(), strict=True))
            for batch, drawn in zip(batches, seeds, strict=True)
        ]
        read = items(self.train, places, self.workers, self.name, self.inputs)
        for place, batch in zip(places, read, strict=True):
            if batch.left_out or batch.inputs is None:
                raise CompressitError(
                    f"{self.name}: an example cannot be left out: {batch.left_out[0]}", NO_SKIP
                )
            if shapes(batch.inputs) != self.shape:
                raise CompressitError(several_shapes(self.name, batch.inputs, self.shape), RESIZE)
            self._check_targets([index for index, _ in place], batch.targets)
            yield batch.inputs

    def _check_targets(self, index: list[int], read: Tensor) -> None:
        wanted = self.targets[index]
        if read.numel() == wanted.numel() and torch.equal(read.to(wanted.dtype).view_as(wanted), wanted):
            return
        pairs = zip(index, read.tolist(), wanted.tolist(), strict=True)
        at, one, other = next((pair for pair in pairs if pair[1] != pair[2]), (index[0], read[0], wanted[0]))
        raise CompressitError(
            f"{self.name}: example {at} has the target {one!r:.60} in `train`, and {other!r:.60} in `train_plain`",
            "give the same examples in both, in one order; random transforms change inputs, not targets",
        )


def in_order(count: int) -> list[list[Place]]:
    """The places of so many examples, batch by batch, without random numbers."""
    return [[(index, 0) for index in range(at, min(at + AT_ONCE, count))] for at in range(0, count, AT_ONCE)]


def held(dataset: Dataset[Any], workers: int, name: str, inputs: Inputs | None) -> Held:
    """The examples of a torch Dataset in memory, as `inputs` says, read once by `workers` processes.

    Raises CompressitError as `items` does, and where every example asks to be left out.
    """
    parts: list[InputTensors] = []
    targets: list[Tensor] = []
    left_out: list[str] = []
    for batch in items(dataset, in_order(len(dataset)), workers, name, inputs):  # type: ignore[arg-type]
        left_out += batch.left_out
        if batch.inputs is None:
            continue
        if parts and shapes(parts[0]) != shapes(batch.inputs):
            raise CompressitError(several_shapes(name, batch.inputs, shapes(parts[0])), RESIZE)
        parts.append(batch.inputs)
        targets.append(batch.targets)
    if not parts:
        raise CompressitError(f"{name}: none of the examples can be read: {left_out[0]}, …")
    return Held(joined(parts), in_a_row(name, targets), tuple(left_out))


def is_stored(dataset: Dataset[Any], name: str, inputs: Inputs | None) -> bool:
    """Whether examples are one tensor of floats or bytes each, so that they can be in a file: as `inputs` says, or,
    where nothing is declared, the first example that can be read."""
    if inputs is not None:
        return isinstance(inputs, TensorSpec) and inputs.dtype == "float32"
    for batch in items(dataset, ([(index, 0)] for index in range(len(dataset))), 0, name):  # type: ignore[arg-type]
        if (x := batch.inputs) is not None:
            return isinstance(x, Tensor) and (x.is_floating_point() or x.dtype == torch.uint8)
    return True  # then none can be read, which is told as they are read


def only_tensor(name: str, inputs: InputTensors) -> Tensor:
    """The inputs of examples that are one tensor each. Raises CompressitError for others."""
    if isinstance(inputs, Tensor):
        return inputs
    raise CompressitError(f"{name} has examples of one and of several inputs", "let all be alike")


def items(
    dataset: Dataset[Any],
    places: Iterable[list[Place]],
    workers: int,
    name: str,
    inputs: Inputs | None = None,
) -> Iterator[Read]:
    """The examples at each of `places`, in this order. `inputs`: as declared; None: floats are in 0..1.

    Global random numbers go on afterwards as if nothing had been drawn. Raises CompressitError for an example that
    cannot be read or is none, and for a process that died.
    """
    batches = _Batches(dataset, inputs)
    read = _by_processes(batches, list(places), workers) if workers else _here(batches, places)
    for batch in read:
        if isinstance(batch, Fault):
            raise CompressitError(f"{name}: {batch.text}", batch.hint)
        yield batch


def several_shapes(name: str, inputs: InputTensors, shape: object) -> str:
    """What is said of inputs (B, *other shape) among those of `shape`."""
    return f"{name} has inputs of the shapes {shape} and {shapes(inputs)}"


def in_a_row(name: str, targets: Sequence[Tensor]) -> Tensor:
    """The targets (N, ...) of batches, one after another. Raises CompressitError where shapes or types differ."""
    kinds = list(dict.fromkeys((tuple(part.shape[1:]), part.dtype) for part in targets))
    if len(kinds) > 1:
        first, other = (f"{dtype} of shape {shape}" for shape, dtype in kinds[:2])
        raise CompressitError(f"{name} has targets that are {first}, and others {other}", "let all be alike")
    return torch.cat(list(targets))


def _here(dataset: _Batches, places: Iterable[list[Place]]) -> Iterator[Read | Fault]:
    for place in places:
        with seeded(0):
            batch = dataset.__getitems__(place)
        yield batch


def _by_processes(dataset: _Batches, places: Sequence[list[Place]], workers: int) -> Iterator[Read | Fault]:
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=_shared,  # pyright: ignore[reportArgumentType] - `__getitems__` gives no list
        generator=torch.Generator(),  # else it takes a number of the global one
    )
    try:
        yield from loader
    except RuntimeError as error:  # a worker was killed
        raise CompressitError(
            f"a process that reads the data ended: {error}",
            "often there is too little memory: set `workers: 0` for the data",
        ) from error


def _shared(batch: Read | Fault) -> Read | Fault:
    """The batch in the memory that processes share.

    torch would put it there later, in a thread whose errors nobody hears: where that memory is full, the run would wait
    for a batch that never comes.
    """
    if isinstance(batch, Read) and batch.inputs is not None:
        try:
            for tensor in (*tensors_of(batch.inputs), batch.targets):
                tensor.share_memory_()
        except RuntimeError as error:
            return Fault(
                f"a batch does not fit into the memory that processes share (/dev/shm): {error}",
                "make it larger (`docker run --shm-size=1g`), or set `workers: 0` for the data",
            )
    return batch


class _Batches(Dataset[Any]):
    """Whole batches of a Dataset, every item drawn from a seed of its own, whichever process reads it."""

    def __init__(self, dataset: Dataset[Any], inputs: Inputs | None) -> None:
        self._dataset, self._inputs = dataset, inputs

    def __getitems__(self, places: Sequence[Place]) -> Read | Fault:
        inputs: list[InputTensors] = []
        targets: list[Tensor] = []
        left_out: list[str] = []
        for index, seed in places:
            draw_from(abs(seed) >> 1)
            try:
                item = _item(self._dataset[index], self._inputs)
            except SkipExample as reason:
                left_out.append(str(reason))
                continue
            except CompressitError as error:
                return Fault(f"example {index} cannot be read: {error.message}", error.hint)
            except OSError as error:  # it vanished, say
                return Fault(f"example {index} cannot be read: {told(error)}", _AGAIN)
            except Exception as error:  # noqa: BLE001 - somebody's code, and a file that may be anything
                return Fault(f"example {index} cannot be read: {told(error)}")
            if not isinstance(item, str) and inputs:
                item = _like((inputs[0], targets[0]), item)
            if isinstance(item, str):
                return Fault(f"example {index}: {item}")
            inputs.append(item[0])
            targets.append(item[1])
        if not inputs:
            return Read(None, torch.empty(0), left_out)
        stacked = [torch.stack(tensors) for tensors in zip(*map(tensors_of, inputs), strict=True)]
        return Read(built(inputs[0], stacked), torch.stack(targets), left_out)


def _like(first: Example, item: Example) -> Example | str:
    x, y = ordered_as(item[0], first[0]), item[1]
    if _kind(x) != _kind(first[0]):
        return f"its inputs are {_kind(x)}, those before it {_kind(first[0])}"
    for tensor, before in zip(tensors_of(x), tensors_of(first[0]), strict=True):
        if tensor.shape != before.shape:
            return f"it has the shape {tuple(tensor.shape)}, not {tuple(before.shape)}: {RESIZE}"
        if tensor.dtype != before.dtype:
            return f"it is {tensor.dtype}, those before it {before.dtype}"
    if (y.shape, y.dtype) != (first[1].shape, first[1].dtype):
        theirs = f"{first[1].dtype} of shape {tuple(first[1].shape)}"
        return f"its target is {y.dtype} of shape {tuple(y.shape)}, that of those before it {theirs}"
    return x, y


def _item(item: object, inputs: Inputs | None) -> Example | str:
    """An example, or what is wrong with it."""
    if not (isinstance(item, tuple | list) and len(item) == 2):
        return f"it is a {type(item).__name__}, not a pair of an input and its target"
    x, y = item
    x = tuple(x) if isinstance(x, list) else x
    several = isinstance(x, tuple | dict) and len(x) > 0
    if inputs is not None and not _structured(x, inputs):
        return f"its inputs are {_kind(x)}, and those declared {in_words(inputs)}"
    if several and inputs is not None:
        x = ordered_as(x, inputs)
    tensors: Any = tensors_of(x) if several else (x,)
    specs = specs_in(inputs) if inputs is not None else (None,) * len(tensors)
    found: list[Tensor] = []
    for tensor, spec in zip(tensors, specs, strict=True):
        if (fault := _tensor_fault(tensor, spec)) is not None:
            return fault
        found.append(_typed(tensor, spec))
    try:
        target = torch.as_tensor(y).detach()
    except (TypeError, ValueError, RuntimeError):
        return f"its target is {y!r}, not a number or an array of numbers"
    return built(x if several else found[0], found), target


def _structured(x: object, inputs: Inputs) -> bool:
    """Whether there are as many inputs, of the names, as declared."""
    if isinstance(inputs, TensorSpec):
        return not isinstance(x, tuple | dict)
    if isinstance(inputs, dict):
        return isinstance(x, dict) and x.keys() == inputs.keys()
    return isinstance(x, tuple) and len(x) == len(inputs)


def _kind(x: object) -> str:
    if isinstance(x, dict):
        return f"a dict of {', '.join(map(str, x)) or 'nothing'}"
    return f"a tuple of {len(x)}" if isinstance(x, tuple) else f"a {type(x).__name__}"


def _tensor_fault(x: object, spec: TensorSpec | None) -> str | None:
    """What is wrong with an input; with None, floats are in 0..1."""
    if not isinstance(x, Tensor) or x.is_complex():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        return f"its input is a {kind}, not a uint8 or float tensor: end its transforms with ToTensor()"
    floats = x.is_floating_point() or x.dtype == torch.uint8
    if spec is None and not floats:
        return None
    if x.is_floating_point() and not x.numel():
        return "its input is empty"
    fault = tensor_fault(x, spec or TensorSpec(tuple(x.shape)))
    return None if fault is None else f"its inputs {fault[0]}: {fault[1]}"


def _typed(x: Tensor, spec: TensorSpec | None) -> Tensor:
    if x.is_floating_point():
        return x.detach().float()
    return x.long() if (spec.dtype == "int64" if spec else x.dtype not in (torch.uint8, torch.bool)) else x
