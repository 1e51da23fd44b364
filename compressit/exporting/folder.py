"""A folder to publish: model.safetensors (a compressit checkpoint), config.json and README.md (a model card)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compressit.checkpoint.builders import layer_owners, model_owner
from compressit.checkpoint.header import copy_with, read_header, tensors_digest
from compressit.checkpoint.model import load
from compressit.checkpoint.probe import outputs
from compressit.checkpoint.tensors import pack, parts, read
from compressit.checkpoint.tensors import write as write_tensors
from compressit.contract.measure import macs, nonzero, parameters, tensor_bytes
from compressit.datasets.specs import from_json
from compressit.exporting.card import model_card, recipe_of
from compressit.exporting.subject import Subject
from compressit.files.writing import beside, move_together
from compressit.host.plugins import Host, installed

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def write(subject: Subject, target: Path, compact: bool, host: Host | None = None) -> None:
    """Writes the three files, replacing existing ones. Raises CompressitError."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    made = beside(target)
    made.mkdir()
    try:
        if compact:
            stored, shapes = pack(read(subject.path, subject.header))
            told = {"compact": shapes, "tensors_sha256": tensors_digest(parts(stored))}
            write_tensors(stored, made / WEIGHTS, subject.header.manifest.updated(**told))
        else:
            copy_with(subject.path, made / WEIGHTS)
        again = load(made / WEIGHTS, host=host)
        subject.check(lambda x: outputs(again, x), "the folder's model")
        about = facts(subject, made / WEIGHTS, host or installed())
        (made / CONFIG).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (made / CARD).write_text(model_card(target.name, about, recipe_of(subject.path)), encoding="utf-8")
        target.mkdir(exist_ok=True)
        move_together((CONFIG, WEIGHTS, CARD), made, target)  # first CONFIG, which marks an exported folder
    finally:
        shutil.rmtree(made, ignore_errors=True)


def facts(subject: Subject, weights: Path, host: Host) -> dict[str, Any]:
    """The content of config.json, as JSON values: the network, its inputs, sizes, metrics and lineage.

    Owners of plugins come from `host`, not from the file.
    """
    manifest = read_header(weights).manifest.model_dump(mode="json")
    builder: dict[str, Any] = manifest["model"]
    counted = macs(subject.model, from_json(builder["inputs"]))
    same = ("edits", "reshaped", "input", "task", "metrics", "lineage", "tensors_sha256")
    return {
        **{name: manifest[name] for name in same},
        **{name: builder[name] for name in ("inputs", "outputs")},
        "format": {"name": "compressit", "version": manifest["format"], "versions": manifest["versions"]},
        "architecture": {
            "name": builder["name"],
            "config": builder["config"],
            "owner": model_owner(builder["name"], host),
        },
        "layer_owners": layer_owners(manifest["layer_owners"], host),
        "sizes": {
            "parameters": parameters(subject.model),
            "nonzero": nonzero(subject.model),
            "macs": counted,
            "bytes": tensor_bytes(subject.model),
            "file_bytes": weights.stat().st_size,
        },
        "compact": sorted(manifest["compact"]),
    }
