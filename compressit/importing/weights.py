"""`compressit import FILE`: weights from a file of `torch.save`, as a plain safetensors file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from compressit.checkpoint import weights
from compressit.checkpoint.header import MOST_HEADER_BYTES, naming
from compressit.checkpoint.tensors import TYPES
from compressit.errors import CompressitError
from compressit.files.writing import replacing
from compressit.formatting import counted
from compressit.importing import statedict, torchfile
from compressit.importing.described import Described

_SHOWN = 5  # names of tensors
_LISTED = 10  # things left out


@dataclass(frozen=True)
class Imported:
    """What was found in a file, and what became of it."""

    source: Path
    target: Path
    taken: str  # the path of the state dict in the file; "" for the whole file
    shapes: Mapping[str, tuple[int, ...]]
    types: Sequence[str]  # most frequent first
    values: int
    renamed: int
    without: Sequence[str]  # prefixes
    left_out: Sequence[str]
    copied: Sequence[str]  # tensors that shared their memory with another
    use: str  # how a recipe starts from the file
    fresh: str | None  # … and with a new head, where that is known

    def lines(self) -> Iterator[str]:
        """The same in words."""
        yield f"{self.source}: took {f'`{self.taken}`' if self.taken else 'all tensors'}"
        if self.left_out:
            more = len(self.left_out) - _LISTED
            tail = f" and {more:,} more" if more > 0 else ""
            yield f"left out: {', '.join(self.left_out[:_LISTED])}{tail}"
        if self.renamed:
            cut = " and ".join(f"`{prefix}`" for prefix in self.without)
            yield f"renamed: {counted(self.renamed, 'tensor')}, without {cut} (--keep-names keeps the names)"
        if self.copied:
            yield f"stored once for each name, though they share memory: {', '.join(self.copied[:_LISTED])}"
        yield f"{counted(len(self.shapes), 'tensor')}, {self.values:,} values ({', '.join(self.types)}):"
        for name, shape in list(self.shapes.items())[:_SHOWN]:
            yield f"  {name} {shape}"
        if len(self.shapes) > _SHOWN:
            yield f"  … and {len(self.shapes) - _SHOWN:,} more"
        yield f"wrote {self.target}"
        yield f"next, in a recipe: model: {self.use}"
        if self.fresh is not None:
            yield f"for other classes: model: {self.fresh}"


def import_weights(
    source: Path,
    target: Path,
    take: str | None = None,
    keep_names: bool = False,
    described: Described | None = None,
) -> Imported:
    """Writes the weights of a .pth, .pt, .bin, .ckpt or .safetensors file to the safetensors file `target`: a plain
    one, or, where their network is `described`, a checkpoint.

    `take`: the path of the state dict in the file, if it holds several. `keep_names`: wrappers' prefixes stay.
    Raises CompressitError, and then writes nothing.
    """
    content = weights.read(source) if source.suffix == ".safetensors" else torchfile.read(source)
    with naming(source):
        chosen, others = statedict.find(content, take)
        names = list(chosen.tensors)
        plain = statedict.Renamed(dict(zip(names, names, strict=True)), ())
        new = plain if keep_names else statedict.tidied(names)
        wanted = {name: chosen.tensors[old] for old, name in new.names.items()}
        stored, copied = storable(wanted)
        if described is not None:
            described.write(stored, target)
    if described is None:
        _write(stored, target)
    numbers = {other.path: len(other.tensors) for other in others}
    dropped = [_told(path, kind, numbers.get(path)) for path, kind in statedict.left_out(content, chosen)]
    types = Counter(str(value.dtype).removeprefix("torch.") for value in stored.values())
    return Imported(
        source=source,
        target=target,
        taken=chosen.name,
        shapes={name: tuple(value.shape) for name, value in stored.items()},
        types=[name for name, _ in types.most_common()],
        values=sum(value.numel() for value in stored.values()),
        renamed=sum(old != name for old, name in new.names.items()),
        without=new.without,
        left_out=[*dropped, *(f"{old} (Tensor)" for old in names if old not in new.names)],
        copied=copied,
        use=f"{{from: {target.name}}}" if described else f"{{uses: …, weights: {target.name}}}",
        fresh=described.for_other_classes(stored, target) if described else None,
    )


def storable(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors as safetensors takes them: contiguous, each with memory of its own; and the names of copies.

    Raises CompressitError for tensors that it cannot store: sparse, quantised, of a type without a name there.
    """
    stored: dict[str, Tensor] = {}
    memory: set[int] = set()
    copied: list[str] = []
    for name, tensor in tensors.items():
        value = tensor.detach()
        if (
            value.layout is not torch.strided
            or value.is_quantized
            or value.is_meta
            or value.dtype not in TYPES
        ):
            raise CompressitError(
                f"'{name}' cannot be stored: {value.dtype}, {value.layout}, on {value.device}",
                "save it as an ordinary dense tensor",
            )
        if name == "__metadata__":
            raise CompressitError(f"safetensors does not allow a tensor named '{name}'")
        value = value.resolve_conj().resolve_neg().contiguous()
        place = value.untyped_storage().data_ptr()
        if value.numel() and place in memory:
            copied.append(name)
            value = value.clone()
        memory.add(place)
        stored[name] = value
    return stored, copied


def _write(tensors: dict[str, Tensor], target: Path) -> None:
    if sum(len(name) + 100 for name in tensors) > MOST_HEADER_BYTES:
        raise CompressitError(f"{len(tensors):,} tensors are too many for one file")
    try:
        with naming(target), replacing(target) as temporary:
            save_file(tensors, temporary, {"format": "pt"})
    except SafetensorError as error:
        raise CompressitError(f"{target}: cannot write the file: {error}") from error


def _told(path: Sequence[str], kind: str, tensors: int | None) -> str:
    name = ".".join(path)
    if tensors:
        return f"{name} ({counted(tensors, 'tensor')}; --take {name} takes them)"
    return f"{name} ({kind})"
