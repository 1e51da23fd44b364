"""Models to checkpoints and back: `save`, `load`, `fresh`. A file knows its own shape and can call nothing.

A model is written down as the registered builder that makes it, the edits since (`edits`) and the tensors,
whose shapes are the file's. Builders and module types are looked up by name among the installed plugins.
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
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.files.reading import opened
from compressit.files.writing import replacing
from compressit.host.plugins import Host, installed


def build(architecture: Architecture, host: Host) -> nn.Module:
    """The builder's model with fresh weights from torch's global generator, without any edits.

    Raises CompressitError when the builder is not installed, refuses the options, or fails.
    """
    name = architecture.name
    builder = builder_of(name, architecture.config, host)
    try:
        model = builder.build(tuple(architecture.input_shape), architecture.classes)
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
) -> None:
    """Writes a self-describing checkpoint, loads it again and compares bit for bit before publishing it.

    The model stays as it is: mode, device, gradients, random numbers. Without an `architecture` the file only
    loads into a given module. `compact` stores sparse tensors without their zeros. Raises CompressitError for
    a model that would not come back the same.
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
        shape = architecture.input_shape if architecture else contract.shape if contract else None
        measured = None
        if shape is not None:
            measured = probing.affording(copied(reference, same_parameters=True), shape, size)
            if measured is None:
                _tell(
                    path, "its outputs are not recorded: they take more memory or time than its size explains"
                )
        probe = measured[0] if measured else None
        manifest = Manifest.of(
            format=1,
            model=_builder(architecture, host) if architecture else None,
            input={**asdict(contract), "dtype": probe.dtype if probe else "float32"} if contract else None,
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
                _tell(path, f"{error.message}: it is loaded with limited=False only")
                loaded = _restored(temporary, header, into and copied(into), host, limited=False)
            _check_same(reference, loaded, measured, Allowance.running(size))


def load(
    path: Path,
    into: nn.Module | None = None,
    host: Host | None = None,
    probe: bool = True,
    limited: bool = True,
) -> nn.Module:
    """The model of a checkpoint on the CPU, in eval mode, with gradients as its builder sets them.

    `into`: a net of the same layers to fill in place instead of building one; it stays on its device, and may
    be half filled after an error. `probe` compares its outputs with the recorded ones. `limited`: building and
    comparing may take the memory and time that go with the file's size. Torch's random numbers stay untouched.
    Raises CompressitError for a damaged or forged file, a missing plugin, and a model that computes something else.
    """
    path = Path(path)
    header = read_header(path)
    with naming(path), probing.quiet():
        devices = [p.device for p in into.parameters() if not p.is_meta] if into is not None else []
        model = _restored(path, header, into, host or installed(), limited)
        shape, recorded = header.manifest.input_shape, header.manifest.probe
        if probe and recorded is not None and shape is not None:
            allowed = Allowance.running(header.file_bytes) if limited else None
            trial = copied(model, same_parameters=True)
            probing.check(trial, recorded, shape, allowed, _doubt(into))
    return model.to(devices[0]) if devices else model


def load_to_run(path: Path, host: Host | None = None, limited: bool = True) -> nn.Module:
    """As `load`, for a model that is then run on inputs of its own size.

    `limited`: a pass of two of these must go with the file's size too, also where its outputs were recorded for
    smaller ones, or not at all.
    """
    model = load(path, host=host, limited=limited)
    header = read_header(path)
    shape, probe = header.manifest.input_shape, header.manifest.probe
    if limited and shape is not None and (probe is None or probe.input_shape):
        with naming(path), probing.quiet():
            trial = copied(model, same_parameters=True)
            probing.measure(trial, shape, Allowance.running(header.file_bytes))
    return model


def fresh(source: Architecture | Path, seed: int, host: Host | None = None) -> nn.Module:
    """A model of this shape with new weights, in train mode: the control "same shape, trained from scratch".

    From an architecture, or from a checkpoint with its edits and narrowed layers. A narrowed layer gets its
    weights from its `reset_parameters`; without one, from a corner of the builder's fresh tensor. Raises
    CompressitError where neither is possible.
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


def classes_of(model: nn.Module, input_shape: Sequence[int]) -> int:
    """How many outputs the model gives for each input. Raises CompressitError when it does not run on one."""
    with probing.quiet():
        probe, _, _ = probing.measure(_reference(model), input_shape)
    return probe.output_shape[1] if len(probe.output_shape) > 1 else 1


def architecture_of(path: Path) -> Architecture | None:
    """What the checkpoint's builder was told; None for a model saved without a registered builder."""
    return _architecture(read_header(Path(path)).manifest)


def contract_of(path: Path) -> InputSpec | None:
    """How the checkpoint's inputs were made, if that was recorded."""
    inputs = read_header(Path(path)).manifest.input
    if inputs is None:
        return None
    return InputSpec(inputs.shape, inputs.scale, inputs.mean, inputs.std, inputs.class_names)


def _reference(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, tensors contiguous: a loaded model will be this to the last bit."""
    reference = copied(model)
    reference.cpu().eval().zero_grad(set_to_none=True)
    for value in (*reference.parameters(), *reference.buffers()):
        # Strides and alignment choose the kernels, and so the last bits of the outputs.
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
    """The built (or given) model after the edits, before the file's tensors; `drawn`: with values in all of its own."""
    manifest, architecture = header.manifest, _architecture(header.manifest)
    count = len(header.loaded()) + len(manifest.tied)
    with Budget(Allowance.building(header.file_bytes, count, drawn)) if limited else nullcontext():
        check_installed(manifest, host, built=into is None)
        if into is None and architecture is None:
            raise CompressitError(
                "it was saved without a registered builder, so compressit cannot build its network",
                "build the network yourself and pass it: compressit.load(path, into=net)",
            )
        if into is None and architecture is not None:
            into = build(architecture, host)
        assert into is not None
        return into, editing.apply(modules.on_cpu(into), manifest.edits, host.module_types())


def _builder(architecture: Architecture, host: Host) -> dict[str, Any]:
    return {
        "name": architecture.name,
        # with every default as it is today
        "config": dump(builder_of(architecture.name, architecture.config, host).config),
        "input_shape": list(architecture.input_shape),
        "classes": architecture.classes,
        "owner": model_owner(architecture.name, host),
    }


def _architecture(manifest: Manifest) -> Architecture | None:
    model, edited = manifest.model, bool(manifest.edits) or manifest.reshaped
    return model and Architecture(model.name, model.config, model.input_shape, model.classes, edited)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _check_same(
    reference: nn.Module, loaded: nn.Module, measured: probing.Measured | None, allowed: Allowance
) -> None:
    """Raises CompressitError unless the loaded model has the reference's state and the measured outputs."""
    again = loaded.state_dict()
    for name, value in reference.state_dict().items():
        if not tensors.same_bits(value, again[name]):
            raise CompressitError(f"the model would not come back the same: '{name}' differs after loading")
    if measured is None:
        return
    _, x, wanted = measured
    got = probing.outputs(loaded, x, allowed)
    if len(got) != len(wanted) or not all(map(tensors.same_bits, got, wanted)):
        hidden = ", ".join(editing.unrecorded(loaded, reference)[:5])
        raise CompressitError(
            "the model would not come back the same: its outputs differ after loading",
            f"these differ, and a checkpoint does not hold them: {hidden}" if hidden else None,
        )


def _doubt(into: nn.Module | None) -> str:
    """What is probably wrong where a loaded model computes something else."""
    if into is None:
        return "the plugin that builds it has probably changed"
    unsaved = [
        f"{at}.{name}".lstrip(".")
        for at, layer in into.named_modules()
        for name in modules.unsaved_buffers(layer)
    ]
    if not unsaved:
        return "the net it was loaded into is probably another one than was saved"
    return (
        f"the file does not hold {', '.join(unsaved[:5])} (persistent=False): "
        "the net it is loaded into must have their values"
    )


def _tell(path: Path, what: str) -> None:
    """Nothing trained is lost because of it, so it is no error."""
    warnings.warn(f"{path}: {what}", stacklevel=3)
