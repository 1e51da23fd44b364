"""A folder to publish: model.safetensors (a compressit checkpoint), config.json, and README.md, a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compressit.checkpoint.compact import pack
from compressit.checkpoint.header import copy_with, read_header, tensors_digest
from compressit.checkpoint.missing import without_folder
from compressit.checkpoint.model import load
from compressit.checkpoint.probe import outputs
from compressit.checkpoint.tensors import parts, read
from compressit.checkpoint.tensors import write as write_tensors
from compressit.contract.measure import macs, nonzero, parameters, tensor_bytes
from compressit.export.card import model_card
from compressit.export.recipe import recipe_of
from compressit.export.subject import Subject
from compressit.files.writing import beside, move_together
from compressit.host.plugins import Host, installed

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def write(subject: Subject, target: Path, compact: bool, host: Host | None = None) -> None:
    """Writes the three files, replacing those that are there. Raises CompressitError."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    made = beside(target)
    made.mkdir()
    try:
        _weights(subject, made / WEIGHTS, compact)
        again = load(made / WEIGHTS, host=host)
        subject.check(lambda x: outputs(again, x), "the folder's model")
        about = facts(subject, made / WEIGHTS, host or installed())
        (made / CONFIG).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (made / CARD).write_text(model_card(target.name, about, recipe_of(subject.path)), encoding="utf-8")
        target.mkdir(exist_ok=True)
        move_together((CONFIG, WEIGHTS, CARD), made, target)  # by the first, a later export knows the folder
    finally:
        shutil.rmtree(made, ignore_errors=True)


def facts(subject: Subject, weights: Path, host: Host) -> dict[str, Any]:
    """What config.json holds, as JSON values: how the network is built and fed, sizes, metrics, lineage.

    Where its parts come from is what `host` has, not what the file says. `macs` is None where they cannot
    be counted (a model of tokens).
    """
    manifest = read_header(weights).manifest.model_dump(mode="json")
    builder: dict[str, Any] = manifest["model"]
    owners = host.module_type_sources()
    counted = macs(subject.model, builder["input_shape"]) if subject.x.is_floating_point() else None
    return {
        "format": {"name": "compressit", "version": manifest["format"], "versions": manifest["versions"]},
        "architecture": {
            "name": builder["name"],
            "config": builder["config"],
            "owner": without_folder(host.find(builder["name"], "model").owner),
        },
        "edits": manifest["edits"],
        "layer_owners": {name: without_folder(str(owners[name])) for name in manifest["layer_owners"]},
        "reshaped": manifest["reshaped"],
        "input_shape": builder["input_shape"],
        "input": manifest["input"],
        "classes": builder["classes"],
        "sizes": {
            "parameters": parameters(subject.model),
            "nonzero": nonzero(subject.model),
            "macs": counted,
            "bytes": tensor_bytes(subject.model),
            "file_bytes": weights.stat().st_size,
        },
        "compact": sorted(manifest["compact"]),
        "metrics": manifest["metrics"],
        "lineage": manifest["lineage"],
        "tensors_sha256": manifest["tensors_sha256"],
    }


def _weights(subject: Subject, file: Path, compact: bool) -> None:
    if not compact:
        copy_with(subject.path, file)
        return
    manifest = subject.header.manifest
    stored, shapes = pack(read(subject.path, subject.header))
    digest = tensors_digest(parts(stored))
    write_tensors(stored, file, manifest.updated(compact=shapes, tensors_sha256=digest))
