"""Moves a model's tensors into a file and back.

The only module that reads private (underscored) attributes of nn.Module.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from compressit.checkpoint.tensors import TYPES
from compressit.errors import CompressitError

_COMPUTED = (
    ("_orig", "_mask", "a pruning mask", "torch.nn.utils.prune.remove(layer, '{}')"),
    ("_g", "_v", "weight_norm", "torch.nn.utils.remove_weight_norm(layer, '{}')"),
)
"""The tensors from which torch's old hooks compute a weight before every forward, and how to remove the hook."""
_FILLERS = frozenset(
    [value for name, value in vars(nn.init).items() if name.endswith("_") and callable(value)]
    + [Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_]
)


class Unfilled(TorchFunctionMode):
    """A block in which initializers leave parameters uninitialized. Buffers are filled as usual.

    Drawing weights takes longer than reading the file that replaces them: without it, ResNet-50 builds ten times
    faster, ViT-B/16 thirty times. A net that computes other values from its initial weights would not reload exactly,
    so `save` rejects it, as it would with drawn weights.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")
        if func in _FILLERS and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **kwargs)


def children(module: nn.Module) -> dict[str, nn.Module]:
    """The direct children. A shared child appears under each of its names."""
    return {name: child for name, child in module._modules.items() if child is not None}


def submodule(model: nn.Module, path: str) -> nn.Module | None:
    """The layer at a path ("" is the model). Looks up layers only, so a forged path cannot reach a property."""
    found: nn.Module | None = model
    for part in path.split(".") if path else ():
        found = found._modules.get(part) if found is not None else None
    return found


def place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module and attribute that hold a tensor of the state dict. Raises CompressitError if there is none."""
    path, _, attribute = name.rpartition(".")
    module = submodule(model, path)
    if module is None or attribute not in {**module._parameters, **module._buffers}:
        raise CompressitError(f"the model has no tensor {name!r}")
    return module, attribute


def unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The module's own buffers that are not in its state dict."""
    names = sorted(module._non_persistent_buffers_set)
    return {name: buffer for name in names if (buffer := module._buffers.get(name)) is not None}


def on_cpu(model: nn.Module) -> nn.Module:
    """Moves the module's tensors to the CPU; those on the meta device stay there."""
    return model._apply(lambda tensor: tensor if tensor.is_meta else tensor.cpu())


def check_storable(model: nn.Module) -> None:
    """Raises CompressitError for what a file cannot hold: objects in the state dict, sparse or meta tensors.

    Also rejects layers whose weight torch's old `weight_norm` or `prune` computes before every forward: they could
    not be loaded into a fresh network.
    """
    for name, value in (*model.state_dict(keep_vars=True).items(), *model.named_buffers()):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CompressitError(f"'{name}' in the state dict is a {kind}; a checkpoint holds tensors only")
        if is_lazy(value):
            raise CompressitError(
                f"'{name}' has no values yet", "run one forward pass before saving the model"
            )
        if value.is_meta or value.layout is not torch.strided or value.dtype not in TYPES:
            what = f"{value.dtype}, {value.layout}, on {value.device}"
            raise CompressitError(f"cannot store the tensor '{name}': {what}")
        if name == "__metadata__":
            raise CompressitError(f"safetensors does not allow a tensor named '{name}'", "rename it")
    for at, layer in model.named_modules():
        own = {**layer._parameters, **layer._buffers}
        for name, value in vars(layer).items():
            for one, other, what, remedy in _COMPUTED:
                if isinstance(value, Tensor) and name + one in own and name + other in own:
                    raise CompressitError(
                        f"{name} of the layer {at or 'at the top level'} is computed from {what}, which a "
                        "checkpoint cannot store",
                        f"turn it into an ordinary tensor before saving: `{remedy.format(name)}`",
                    )


def collect(model: nn.Module) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """A model's tensors (on the CPU, contiguous, sharing no memory) and the (kept, other) names of tied ones."""
    tensors: dict[str, Tensor] = {}
    first: dict[Any, str] = {}
    tied: list[tuple[str, str]] = []
    for name, value in model.state_dict(keep_vars=True).items():
        same = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and same in first:
            tied.append((first[same], name))
            continue
        first[same] = name
        value = value.detach().cpu().contiguous()
        tensors[name] = value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
    return tensors, tied


def put(model: nn.Module, tensors: Mapping[str, Tensor], tied: Sequence[tuple[str, str]]) -> None:
    """Puts these tensors into a model in place, with their shapes and dtypes, each exactly once.

    `requires_grad` is unchanged. Raises CompressitError if names are missing, left over, or tied wrongly.
    """
    state = OrderedDict(tensors)
    for kept, other in tied:
        if kept not in tensors or other in tensors:
            raise CompressitError(f"cannot tie {other!r} to {kept!r}: the file's tensors do not match")
        state[other] = tensors[kept]
    _convert(model, tensors)
    for name, tensor in state.items():
        _reshape(model, name, tensor)
    # the module versions
    state._metadata = getattr(model.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CompressitError(f"the tensors do not fit the model: {' '.join(str(error).split())}") from error
    retie(model, tied)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise CompressitError(f"'{name}' has no values: neither the file nor the builder provides any")


def retie(model: nn.Module, tied: Sequence[tuple[str, str]]) -> None:
    """Makes each pair of names share one tensor again."""
    for kept, other in tied:
        (source, attribute), (target, name) = place(model, kept), place(model, other)
        setattr(target, name, getattr(source, attribute))


def narrow(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> list[nn.Module]:
    """Cuts the tensors of a freshly built model to these smaller shapes; returns the layers that changed.

    Each keeps a corner of the builder's tensor. Raises CompressitError for a shape that does not fit inside it.
    """
    changed: dict[nn.Module, None] = {}
    for name, shape in shapes.items():
        module, attribute = place(model, name)
        old = getattr(module, attribute)
        if old is not None and tuple(old.shape) == tuple(shape):
            continue
        if old is None or old.ndim != len(shape) or any(map(operator.gt, shape, old.shape)):
            raise CompressitError(f"cannot make new weights of shape {tuple(shape)} for {name!r}")
        corner = old.detach()[tuple(map(slice, shape))].clone()
        is_parameter = isinstance(old, nn.Parameter)
        setattr(module, attribute, nn.Parameter(corner, old.requires_grad) if is_parameter else corner)
        changed[module] = None
    return list(changed)


def draw(layers: Sequence[nn.Module]) -> None:
    """Draws new weights with each layer's `reset_parameters`, if it has one. Raises CompressitError if that fails."""
    for layer in layers:
        reset = getattr(layer, "reset_parameters", None)
        try:
            if callable(reset):
                reset()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise CompressitError(f"{type(layer).__name__}.reset_parameters failed: {reason}") from error


def _convert(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Converts buffers that are not in the file to the file's floating dtype, if it has exactly one."""
    types = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if len(types) == 1:
        for module in model.modules():
            for name, buffer in unsaved_buffers(module).items():
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(next(iter(types))))


def _reshape(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a placeholder of the file's shape and dtype there, which `load_state_dict(assign=True)` accepts."""
    module, attribute = place(model, name)
    old = getattr(module, attribute)
    if old is None or (not is_lazy(old) and old.shape == tensor.shape and old.dtype == tensor.dtype):
        return
    new = torch.empty_like(tensor, device="meta")
    if isinstance(old, nn.Parameter):
        can_learn = tensor.is_floating_point() or tensor.is_complex()
        new = nn.Parameter(new, requires_grad=old.requires_grad and can_learn)
    setattr(module, attribute, new)
