"""`compressit import LIBRARY:NAME`: a library's own weights, as a self-describing checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint import weights
from compressit.checkpoint.builders import builder_of
from compressit.config import dump
from compressit.contract.kinds import Model, Pretrained
from compressit.datasets.splits import InputSpec
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import FOREIGN, CompressitError, told
from compressit.formatting import counted
from compressit.host.plugins import Host
from compressit.importing.described import with_fresh_head
from compressit.importing.torchfile import only_weights


def import_pretrained(library: str, name: str, target: Path, host: Host) -> list[str]:
    """Writes the weights that `library` has for its model `name`, with all a recipe must know; returns what to tell.

    The builder is the plugin `model.LIBRARY` with the option `name`. Raises CompressitError, and then writes nothing.
    """
    plugin = f"model.{library}"
    kind: Any = host.find(plugin, "model").plugin
    builder = builder_of(plugin, {"name": name}, host) if kind.pretrained is not Model.pretrained else None
    found = _fetched(builder) if builder is not None else None
    if builder is None or found is None:
        raise CompressitError(
            f"{plugin} has no weights of its own", "import a file with weights: compressit import FILE"
        )
    architecture = checkpoint.Architecture(plugin, dump(builder.config), found.inputs, found.outputs)
    net = checkpoint.build(architecture, host)
    weights.put(net, found.tensors, (), plugin)
    names = found.class_names or tuple(map(str, range(found.outputs)))
    contract = InputSpec(found.inputs, "standard", found.mean, found.std, names)
    task = TaskSpec(CLASSIFICATION, found.outputs, names)
    checkpoint.save(net, target, architecture, contract, host, task=task)
    return _lines(library, name, target, found)


def _lines(library: str, name: str, target: Path, found: Pretrained) -> list[str]:
    shape = " x ".join(map(str, found.inputs.shape))
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (found.mean, found.std))
    fresh = with_fresh_head(f"model.{library}", {"name": name}, target, found.tensors, found.outputs)
    return [
        f"{library}:{name}: {counted(len(found.tensors), 'tensor')}, {found.outputs} classes",
        f"inputs {shape}, scaled by mean {mean} and std {std}",
        f"wrote {target}",
        f"next, in a recipe for these classes: model: {{from: {target.name}}}",
        f"for other classes: model: {fresh}",
    ]


def _fetched(builder: Model[Any]) -> Pretrained | None:
    try:
        with only_weights():
            return builder.pretrained()
    except CompressitError:
        raise
    except FOREIGN as error:  # a library's, of the network, or of a file in its cache
        raise CompressitError(
            f"{builder.name} could not get its weights: {told(error)}",
            "they are downloaded once, so this needs a network the first time; a file that you have is imported with "
            f"`compressit import FILE --model {builder.name}`",
        ) from error
