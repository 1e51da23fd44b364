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
from pydantic import ValidationError
from torch import Tensor, nn

from compressit.checkpoint import edits as edit
from compressit.checkpoint import layer_checks
from compressit.checkpoint import probe as probing
from compressit.checkpoint import tensors as tensor
from compressit.checkpoint.compact import pack
from compressit.checkpoint.header import (
    Header,
    checked,
    naming,
    read_header,
    tensors_digest,
)
from compressit.checkpoint.limits import Allowance, Budget, ExhaustingError
from compressit.checkpoint.manifest import Architecture, Builder, Manifest, ReplaceEdit
from compressit.checkpoint.missing import check_installed, without_folder
from compressit.checkpoint.modules import on_cpu, unsaved_buffers
from compressit.checkpoint.unfilled import Unfilled
from compressit.config import dump
from compressit.contract.kinds import Model
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
    try:
        builder = host.create(Model, architecture.name, architecture.config)
        model = builder.build(tuple(architecture.input_shape), architecture.classes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its options"
        raise CompressitError(f"'{architecture.name}' refuses {where}: {first['msg']}") from error
    except CompressitError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CompressitError(f"'{architecture.name}' cannot build the model: {reason}") from error
    if not isinstance(model, nn.Module):
        raise CompressitError(f"'{architecture.name}' built a {type(model).__name__}, not an nn.Module")
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
        tensor.check_storable(model)
        reference = _reference(model)
        layer_checks.check(reference)
        tensors, tied = tensor.collect(reference)
        stored, shapes = pack(tensors) if compact else (tensors, {})
        module_types = host.module_types()
        if architecture is None:
            edits, reshaped = edit.snapshot(reference, module_types), False
        else:
            unchanged = build(architecture, host)
            edits = edit.diff(unchanged, reference, module_types)
            reshaped = _shapes(unchanged) != _shapes(reference)
        shape = architecture.input_shape if architecture else contract.shape if contract else None
        size = sum(value.nbytes for value in stored.values())
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
            model=_builder(architecture, host),
            input={**asdict(contract), "dtype": probe.dtype if probe else "float32"} if contract else None,
            edits=[e.model_dump(mode="json") for e in edits],
            layer_owners=_layer_owners(edits, host),
            reshaped=reshaped,
            compact=shapes,
            tied=tied,
            probe=probe.model_dump(mode="json") if probe else None,
            lineage=[dict(step) for step in lineage],
            metrics=dict(metrics or {}),
            parameters=sum(p.numel() for p in reference.parameters()),
            tensors_sha256=tensors_digest(tensor.parts(stored)),
            versions={"compressit": importlib.metadata.version("compressit"), "torch": torch.__version__},
        )
        with replacing(path) as temporary:
            tensor.write(stored, temporary, manifest)
            with opened(temporary) as file:
                header = checked(file)

            def again(limited: bool) -> nn.Module:
                into = copied(reference) if architecture is None else None
                return _restored(temporary, header, into, host, limited)

            try:
                loaded = again(limited=True)
            except ExhaustingError as error:
                _tell(path, f"{error.message}: it is loaded with limited=False only")
                loaded = again(limited=False)
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
    manifest = header.manifest
    with naming(path), probing.quiet():
        devices = [p.device for p in into.parameters() if not p.is_meta] if into is not None else []
        model = _restored(path, header, into, host or installed(), limited)
        shape = _input_shape(manifest)
        if probe and manifest.probe is not None and shape is not None:
            allowed = Allowance.running(header.file_bytes) if limited else None
            trial = copied(model, same_parameters=True)
            probing.check(trial, manifest.probe, shape, allowed, _doubt(into))
    return model.to(devices[0]) if devices else model


def load_to_run(path: Path, host: Host | None = None, limited: bool = True) -> nn.Module:
    """As `load`, for a model that is then run on inputs of its own size.

    `limited`: a pass of two of these must go with the file's size too, also where its outputs were recorded for
    smaller ones, or not at all.
    """
    model = load(path, host=host, limited=limited)
    header = read_header(path)
    shape, probe = _input_shape(header.manifest), header.manifest.probe
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
        changed = tensor.narrow(model, {name: shape for name, (_, shape) in header.loaded().items()})
        tensor.retie(model, header.manifest.tied)
        layer_checks.check(model, changes)
        tensor.draw(changed)
    return model.train()


def classes_of(model: nn.Module, input_shape: Sequence[int]) -> int:
    """How many outputs the model gives for each input. Raises CompressitError when it does not run on one."""
    with probing.quiet():
        probe, _, _ = probing.measure(_reference(model), input_shape)
    return probe.output_shape[1] if len(probe.output_shape) > 1 else 1


def architecture_of(path: Path) -> Architecture | None:
    """What the checkpoint's builder was told; None for a model saved without a registered builder."""
    header = read_header(Path(path))
    if header.manifest.model is None:
        return None
    return _architecture(
        header.manifest.model, edited=bool(header.manifest.edits) or header.manifest.reshaped
    )


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


def _doubt(into: nn.Module | None) -> str:
    """What is probably wrong where a loaded model computes something else."""
    if into is None:
        return "the plugin that builds it has probably changed"
    unsaved = [
        f"{at}.{name}".lstrip(".") for at, layer in into.named_modules() for name in unsaved_buffers(layer)
    ]
    if not unsaved:
        return "the net it was loaded into is probably another one than was saved"
    names = ", ".join(unsaved[:5])
    return (
        f"the file does not hold {names} (persistent=False): the net it is loaded into must have their values"
    )


def _builder(architecture: Architecture | None, host: Host) -> dict[str, Any] | None:
    if architecture is None:
        return None
    plugin = host.create(Model, architecture.name, architecture.config)
    return {
        "name": architecture.name,
        "config": dump(plugin.config),  # with every default as it is today
        "input_shape": list(architecture.input_shape),
        "classes": architecture.classes,
        "owner": without_folder(host.find(architecture.name, "model").owner),
    }


def _layer_owners(edits: Sequence[edit.Edit], host: Host) -> dict[str, str]:
    owners = host.module_type_sources()
    used = {e.type for e in edits if isinstance(e, ReplaceEdit)}
    return {name: without_folder(str(owners[name])) for name in sorted(used)}


def _architecture(builder: Builder, edited: bool = False) -> Architecture:
    return Architecture(builder.name, builder.config, builder.input_shape, builder.classes, edited)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _check_same(
    reference: nn.Module,
    loaded: nn.Module,
    measured: probing.Measured | None,
    allowed: Allowance,
) -> None:
    """Raises CompressitError unless the loaded model has the reference's state and the measured outputs."""
    state, again = reference.state_dict(), loaded.state_dict()
    for name, value in state.items():
        if not tensor.same_bits(value, again[name]):
            raise CompressitError(f"the model would not come back the same: '{name}' differs after loading")
    if measured is None:
        return
    _, x, wanted = measured
    got = probing.outputs(loaded, x, allowed)
    if len(got) != len(wanted) or not all(map(tensor.same_bits, got, wanted)):
        hidden = ", ".join(edit.unrecorded(loaded, reference)[:5])
        hint = f"these differ, and a checkpoint does not hold them: {hidden}" if hidden else None
        raise CompressitError(
            "the model would not come back the same: its outputs differ after loading", hint
        )


def _tell(path: Path, what: str) -> None:
    """Nothing trained is lost because of it, so it is no error."""
    warnings.warn(f"{path}: {what}", stacklevel=3)


def _restored(
    path: Path, header: Header, into: nn.Module | None, host: Host, limited: bool = True
) -> nn.Module:
    tensors = tensor.read(path, header)
    with Unfilled():
        model, changes = _skeleton(header, into, host, limited=limited)
    tensor.put(model, tensors, header.manifest.tied)
    layer_checks.check(model, changes)
    return model.eval()


def _skeleton(
    header: Header, into: nn.Module | None, host: Host, drawn: bool = False, limited: bool = True
) -> tuple[nn.Module, layer_checks.Changes]:
    """The built (or given) model after the edits, before the file's tensors; `drawn`: with values in all of its own."""
    manifest = header.manifest
    if into is None and manifest.model is None:
        raise CompressitError(
            "it was saved without a registered builder, so compressit cannot build its network",
            "build the network yourself and pass it: compressit.load(path, into=net)",
        )
    tensors = len(header.loaded()) + len(manifest.tied)
    allowed = Allowance.building(header.file_bytes, tensors, drawn)
    with Budget(allowed) if limited else nullcontext():
        check_installed(manifest, host, built=into is None)
        if into is None and manifest.model is not None:
            into = build(_architecture(manifest.model), host)
        assert into is not None
        return into, edit.apply(on_cpu(into), manifest.edits, host.module_types())


def _input_shape(manifest: Manifest) -> tuple[int, ...] | None:
    if manifest.model is not None:
        return manifest.model.input_shape
    return manifest.input.shape if manifest.input else None
