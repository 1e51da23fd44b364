"""Save models to checkpoints and load them: `save`, `load`, `fresh`. A checkpoint holds data only, no code.

A checkpoint stores the name and options of the registered builder, the edits made since (`edits`) and the tensors.
Tensor shapes come from the file. Builders and module types are looked up by name among the installed plugins.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressit.checkpoint import edits as editing
from compressit.checkpoint import layer_checks, modules, tensors
from compressit.checkpoint import probe as probing
from compressit.checkpoint.builders import builder_of, check_installed, layer_owners, model_owner
from compressit.checkpoint.header import Header, checked, naming, read_header, tensors_digest
from compressit.checkpoint.limits import Allowance, Budget, ExhaustingError
from compressit.checkpoint.manifest import Architecture, Manifest, ReplaceEdit
from compressit.config import dump
from compressit.contract.nets import copied, unwrapped
from compressit.datasets.specs import Inputs, from_json, to_json
from compressit.datasets.splits import InputSpec
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.files.reading import opened
from compressit.files.writing import replacing
from compressit.host.plugins import Host, installed


def build(architecture: Architecture, host: Host) -> nn.Module:
    """Builds the model with fresh weights from torch's global generator, without any edits.

    Raises CompressitError when the builder is not installed, rejects the options, or fails.
    """
    name = architecture.name
    builder = builder_of(name, architecture.config, host)
    try:
        model = builder.build(architecture.inputs, architecture.outputs)
    except CompressitError:
        raise
    except Exception as error:
        raise CompressitError(f"'{name}' cannot build the model: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise CompressitError(f"'{name}' built a {type(model).__name__}, not an nn.Module")
    return unwrapped(model)


def save(
    model: nn.Module,
    path: Path,
    architecture: Architecture | None = None,
    contract: InputSpec | None = None,
    host: Host | None = None,
    lineage: Sequence[Mapping[str, Any]] = (),
    metrics: Mapping[str, float] | None = None,
    compact: bool = False,
    task: TaskSpec | None = None,
) -> None:
    """Writes a self-describing checkpoint; before it appears at `path`, reloads it and compares every bit.

    Leaves the model's mode, device and gradients and the random state unchanged. Without an `architecture`, the
    file can only be loaded into a given module. `compact` stores sparse tensors without their zeros. Raises
    CompressitError if the reloaded model would differ.
    """
    path, host = Path(path), host or installed()
    with naming(path), probing.quiet():
        modules.check_storable(model)
        reference = _reference(model)
        layer_checks.check(reference)
        own, tied = modules.collect(reference)
        stored, compact_shapes = tensors.pack(own) if compact else (own, {})
        size = sum(value.nbytes for value in stored.values())
        if architecture is None:
            edits, reshaped = editing.snapshot(reference, host.module_types()), False
        else:
            unchanged = build(architecture, host)
            edits = editing.diff(unchanged, reference, host.module_types())
            reshaped = _shapes(unchanged) != _shapes(reference)
        inputs = architecture.inputs if architecture else contract.inputs if contract else None
        measured = None
        if inputs is not None:
            measured = probing.affording(copied(reference, same_parameters=True), inputs, size)
            if measured is None:
                _tell(
                    path,
                    "no outputs recorded: a forward pass exceeds the memory or time limit for this file size",
                )
        probe = measured[0] if measured else None
        manifest = Manifest.of(
            format=1,
            model=_builder(architecture, host) if architecture else None,
            input={**vars(contract), "inputs": to_json(contract.inputs)} if contract else None,
            task=asdict(task) if task else None,
            edits=[edit.model_dump(mode="json") for edit in edits],
            layer_owners=layer_owners({edit.type for edit in edits if isinstance(edit, ReplaceEdit)}, host),
            reshaped=reshaped,
            compact=compact_shapes,
            tied=tied,
            probe=probe.model_dump(mode="json") if probe else None,
            lineage=[dict(step) for step in lineage],
            metrics=dict(metrics or {}),
            parameters=sum(p.numel() for p in reference.parameters()),
            tensors_sha256=tensors_digest(tensors.parts(stored)),
            versions={"compressit": importlib.metadata.version("compressit"), "torch": torch.__version__},
        )
        with replacing(path) as temporary:
            tensors.write(stored, temporary, manifest)
            with opened(temporary) as file:
                header = checked(file)
            into = None if architecture else reference
            try:
                loaded = _restored(temporary, header, into and copied(into), host, limited=True)
            except ExhaustingError as error:
                _tell(path, f"{error.message}: load it with limited=False")
                loaded = _restored(temporary, header, into and copied(into), host, limited=False)
            _check_same(reference, loaded, measured, Allowance.running(size))


def load(
    path: Path,
    into: nn.Module | None = None,
    host: Host | None = None,
    probe: bool = True,
    limited: bool = True,
) -> nn.Module:
    """Loads a checkpoint's model on the CPU, in eval mode, with `requires_grad` as its builder sets it.

    `into`: a module with the same layers, filled in place instead of building one; it stays on its device, and an
    error may leave it partly filled. `probe` compares the outputs with the recorded ones. `limited` bounds the memory
    and time of building and comparing by the file's size. Torch's random state is unchanged.
    Raises CompressitError for a damaged or forged file, a missing plugin, or outputs that differ.
    """
    path = Path(path)
    header = read_header(path)
    with naming(path), probing.quiet():
        devices = [p.device for p in into.parameters() if not p.is_meta] if into is not None else []
        model = _restored(path, header, into, host or installed(), limited)
        inputs, recorded = header.manifest.inputs, header.manifest.probe
        if probe and recorded is not None and inputs is not None:
            allowed = Allowance.running(header.file_bytes) if limited else None
            trial = copied(model, same_parameters=True)
            probing.check(trial, recorded, inputs, allowed, _doubt(into))
    return model.to(devices[0]) if devices else model


def load_to_run(path: Path, host: Host | None = None, limited: bool = True) -> nn.Module:
    """Like `load`, for a model that will run on inputs of its full size.

    With `limited`, a forward pass of two full-size inputs must stay within the limits for the file's size too, even
    if outputs were recorded for smaller inputs or not at all.
    """
    model = load(path, host=host, limited=limited)
    header = read_header(path)
    inputs, probe = header.manifest.inputs, header.manifest.probe
    if limited and inputs is not None and (probe is None or probe.shapes):
        with naming(path), probing.quiet():
            trial = copied(model, same_parameters=True)
            probing.measure(trial, inputs, Allowance.running(header.file_bytes))
    return model


def fresh(source: Architecture | Path, seed: int, host: Host | None = None) -> nn.Module:
    """Builds a model of the same shape with new weights, in train mode: the trained-from-scratch control.

    `source` is an architecture, or a checkpoint, whose edits and narrowed layers are kept. A narrowed layer is
    initialized by its `reset_parameters`; without one, it gets a corner of the builder's fresh tensor. Raises
    CompressitError if neither is possible.
    """
    host = host or installed()
    if isinstance(source, Architecture):
        with probing.quiet(seed):
            return build(source, host).train()
    path = Path(source)
    header = read_header(path)
    with naming(path), probing.quiet(seed):
        model, changes = _skeleton(header, None, host, drawn=True)
        changed = modules.narrow(model, {name: shape for name, (_, shape) in header.loaded().items()})
        modules.retie(model, header.manifest.tied)
        layer_checks.check(model, changes)
        modules.draw(changed)
    return model.train()


def outputs_of(model: nn.Module, inputs: Inputs) -> int:
    """The number of outputs per input. Raises CompressitError if the model cannot run on `inputs`."""
    with probing.quiet():
        probe, _, _ = probing.measure(_reference(model), inputs)
    return probe.output_shape[1] if len(probe.output_shape) > 1 else 1


def architecture_of(path: Path) -> Architecture | None:
    """The checkpoint's builder and its options; None for a model saved without a registered builder."""
    return _architecture(read_header(Path(path)).manifest)


def contract_of(path: Path) -> InputSpec | None:
    """How the checkpoint's inputs were prepared, if recorded."""
    known = read_header(Path(path)).manifest.input
    if known is None:
        return None
    inputs = from_json(known.model_dump(mode="json")["inputs"])
    return InputSpec(inputs, known.scale, known.mean, known.std, known.class_names)


def task_of(path: Path) -> TaskSpec | None:
    """What the checkpoint's model was made for, if recorded."""
    posed = read_header(Path(path)).manifest.task
    return posed and TaskSpec(posed.uses, posed.outputs, posed.names, posed.options)


def _reference(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, with contiguous tensors: a loaded model must equal it bit for bit."""
    reference = copied(model)
    reference.cpu().eval().zero_grad(set_to_none=True)
    for value in (*reference.parameters(), *reference.buffers()):
        # Strides and alignment select the kernels, which affects the last bits of the outputs.
        if value.storage_offset() or value.stride() != torch.empty(value.shape, device="meta").stride():
            value.data = value.data.clone(memory_format=torch.contiguous_format)
    return reference


def _restored(path: Path, header: Header, into: nn.Module | None, host: Host, limited: bool) -> nn.Module:
    own = tensors.read(path, header)
    with modules.Unfilled():
        model, changes = _skeleton(header, into, host, limited=limited)
    modules.put(model, own, header.manifest.tied)
    layer_checks.check(model, changes)
    return model.eval()


def _skeleton(
    header: Header, into: nn.Module | None, host: Host, drawn: bool = False, limited: bool = True
) -> tuple[nn.Module, editing.Changes]:
    """The built (or given) model after the edits, without the file's tensors; `drawn`: its own are initialized."""
    manifest, architecture = header.manifest, _architecture(header.manifest)
    count = len(header.loaded()) + len(manifest.tied)
    with Budget(Allowance.building(header.file_bytes, count, drawn)) if limited else nullcontext():
        check_installed(manifest, host, built=into is None)
        if into is None and architecture is None:
            raise CompressitError(
                "the model was saved without a registered builder, so compressit cannot build it",
                "build the network yourself and pass it: compressit.load(path, into=net)",
            )
        if into is None and architecture is not None:
            into = build(architecture, host)
        assert into is not None
        return into, editing.apply(modules.on_cpu(into), manifest.edits, host.module_types())


def _builder(architecture: Architecture, host: Host) -> dict[str, Any]:
    return {
        "name": architecture.name,
        # defaults written out, in case they change later
        "config": dump(builder_of(architecture.name, architecture.config, host).config),
        "inputs": to_json(architecture.inputs),
        "outputs": architecture.outputs,
        "owner": model_owner(architecture.name, host),
    }


def _architecture(manifest: Manifest) -> Architecture | None:
    model, edited = manifest.model, bool(manifest.edits) or manifest.reshaped
    if model is None or (inputs := manifest.inputs) is None:
        return None
    return Architecture(model.name, model.config, inputs, model.outputs, edited)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _check_same(
    reference: nn.Module, loaded: nn.Module, measured: probing.Measured | None, allowed: Allowance
) -> None:
    """Raises CompressitError unless the loaded model has the reference's state and the measured outputs."""
    again = loaded.state_dict()
    for name, value in reference.state_dict().items():
        if not tensors.same_bits(value, again[name]):
            raise CompressitError(f"the saved model does not reload exactly: '{name}' differs")
    if measured is None:
        return
    _, x, wanted = measured
    got = probing.outputs(loaded, x, allowed)
    if len(got) != len(wanted) or not all(map(tensors.same_bits, got, wanted)):
        hidden = ", ".join(editing.unrecorded(loaded, reference)[:5])
        raise CompressitError(
            "the saved model does not reload exactly: its outputs differ",
            f"a checkpoint does not store these attributes, which differ: {hidden}" if hidden else None,
        )


def _doubt(into: nn.Module | None) -> str:
    """The likely reason why a loaded model's outputs differ from the recorded ones."""
    if into is None:
        return "the plugin that builds the model has probably changed"
    unsaved = [
        f"{at}.{name}".lstrip(".")
        for at, layer in into.named_modules()
        for name in modules.unsaved_buffers(layer)
    ]
    if not unsaved:
        return "the net passed as into= is probably not the one that was saved"
    return (
        f"the file does not store {', '.join(unsaved[:5])} (persistent=False): "
        "the net passed as into= must already have their values"
    )


def _tell(path: Path, what: str) -> None:
    """A warning, not an error: no training is lost."""
    warnings.warn(f"{path}: {what}", stacklevel=3)
