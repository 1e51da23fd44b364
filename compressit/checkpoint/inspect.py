"""What `compressit inspect FILE` shows: everything in the file's header, read without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressit.checkpoint.header import BYTES, verify
from compressit.datasets.specs import from_json, in_words
from compressit.printable import line

_FIELDS = ("model", "edits", "reshaped", "compact", "input", "task", "tied", "lineage", "metrics", "versions")
_MOST_TENSORS = 60  # lines of the listing


def facts(path: Path) -> dict[str, Any]:
    """Checks a checkpoint's digest and returns its facts as JSON values.

    Keys: path, format, file_bytes, tensor_bytes (of the tensors as loaded), stored_bytes (of those in the
    file), parameters (values in all parameters), model, edits, reshaped, compact (shapes of the tensors
    stored compactly), input, task, tied, lineage, metrics, versions, sha256, tensors (name, dtype and shape of
    each, as loaded). Raises CompressitError.
    """
    header = verify(Path(path))
    manifest = header.manifest.model_dump(mode="json")
    loaded = header.loaded()
    return {
        "path": str(path),
        "format": manifest["format"],
        "file_bytes": header.file_bytes,
        "tensor_bytes": sum(math.prod(shape) * BYTES[dtype] for dtype, shape in loaded.values()),
        "stored_bytes": sum(info.values * BYTES[info.dtype] for info in header.tensors.values()),
        "parameters": manifest["parameters"],
        **{name: manifest[name] for name in _FIELDS},
        "sha256": manifest["tensors_sha256"],
        "tensors": [
            {"name": name, "dtype": dtype, "shape": list(shape)}
            for name, (dtype, shape) in sorted(loaded.items())
        ],
    }


def render(facts: Mapping[str, Any]) -> str:
    """The facts as plain text. Control characters from the file are escaped."""
    return "\n".join(map(line, _lines(facts)))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['path']}: compressit checkpoint, format {facts['format']}"
    yield ""
    yield from _model(facts)
    yield f"  parameters   {facts['parameters']:,}"
    compact = f", {len(facts['compact'])} of them stored compactly" if facts["compact"] else ""
    size = f"{facts['tensor_bytes']:,} bytes (file: {facts['file_bytes']:,} bytes{compact})"
    yield f"  tensors      {len(facts['tensors'])}, {size}"
    yield f"  sha256       {facts['sha256']}"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    yield f"  written by   {versions}"
    if (task := facts["task"]) is not None:
        yield f"  task         {task['uses']}, {task['outputs']} outputs {_compact(task['options'])}"
    yield from _input(facts["input"])
    if facts["lineage"]:
        yield ""
        yield "lineage (oldest first)"
        for step in facts["lineage"]:
            yield f"  {_step(step)}"
    if facts["metrics"]:
        yield ""
        yield "metrics (accuracies and ratios are fractions)"
        width = max(map(len, facts["metrics"]))
        for name, value in sorted(facts["metrics"].items()):
            yield f"  {name:{width}}  {'not finite' if value is None else f'{value:.6g}'}"
    yield ""
    yield "layers"
    yield from _tensors(facts["tensors"])


def _model(facts: Mapping[str, Any]) -> Iterator[str]:
    model = facts["model"]
    if model is None:
        yield "  model        no registered builder: load it with compressit.load(path, into=net)"
        return
    yield f"  model        {model['name']} {_compact(model['config'])} (from {model['owner']})"
    yield f"  inputs       {in_words(from_json(model['inputs']))}, {model['outputs']} outputs"
    replaced = [f"{edit['at']} is a {edit['type']}" for edit in facts["edits"] if edit["do"] == "replace"]
    if facts["edits"] or facts["reshaped"]:
        changed = "; ".join(replaced) or "narrower layers; their shapes are below"
        yield f"  changed      since building: {changed}"


def _input(inputs: Mapping[str, Any] | None) -> Iterator[str]:
    if inputs is None:
        return
    values = ""
    if inputs["mean"] is not None:
        values = f": (value - {inputs['mean']}) / {inputs['std']} per channel"
    yield f"  input data   {in_words(from_json(inputs['inputs']))}, scale {inputs['scale']}{values}"
    yield f"  class names  {', '.join(inputs['class_names'])}"


def _step(step: Mapping[str, Any]) -> str:
    name, uses = step.get("stage", "?"), step.get("uses", "?")
    rest = {key: value for key, value in step.items() if key not in ("stage", "uses", "key")}
    return f"{name}: {uses} {_compact(rest)}"


def _tensors(tensors: list[dict[str, Any]]) -> Iterator[str]:
    shown = tensors[:_MOST_TENSORS]
    width = max((len(entry["name"]) for entry in shown), default=0)
    for entry in shown:
        yield f"  {entry['name']:{width}}  {entry['dtype']:5}  {_shape(entry['shape'])}"
    if len(tensors) > len(shown):
        yield f"  … and {len(tensors) - len(shown)} more"


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
