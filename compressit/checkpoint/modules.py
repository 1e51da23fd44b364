"""The parts of nn.Module that torch keeps under underscored names, read in this file only."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from torch import Tensor, nn


def children(module: nn.Module) -> dict[str, nn.Module]:
    """The direct children, a shared one under each of its names."""
    return {name: child for name, child in module._modules.items() if child is not None}


def submodule(model: nn.Module, path: str) -> nn.Module | None:
    """The layer at a path ("" is the model). Reads layers only: a forged path must reach no property."""
    found: nn.Module | None = model
    for part in path.split(".") if path else ():
        found = found._modules.get(part) if found is not None else None
    return found


def has_tensor(module: nn.Module, name: str) -> bool:
    """Whether the module itself has a parameter or buffer of that name, be it None."""
    return name in module._parameters or name in module._buffers


def own_tensor(module: nn.Module, name: str) -> Tensor | None:
    """The module's own parameter or buffer of that name; one that is computed (a parametrisation) does not count."""
    tensor = module._parameters.get(name)
    return module._buffers.get(name) if tensor is None else tensor


def on_cpu(model: nn.Module) -> nn.Module:
    """The same module with its tensors on the CPU; those without values (on the meta device) stay without."""
    return model._apply(lambda tensor: tensor if tensor.is_meta else tensor.cpu())


def unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The module's own buffers that are not in its state dict."""
    names = sorted(module._non_persistent_buffers_set)
    return {name: buffer for name in names if (buffer := module._buffers.get(name)) is not None}
