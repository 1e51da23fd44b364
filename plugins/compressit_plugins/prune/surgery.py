"""Removes chosen channels from a model, and runs copies of it without storage."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressit import CompressitError, InputTensors, call, each_tensor, macs, parameters, tensors_of
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.places import line_of


@torch.no_grad()
def remove(model: nn.Module, groups: Sequence[Group], gone: Sequence[Tensor]) -> None:
    """Removes the channels that are True in `gone` (bool (width,) for each group) from `model`, in place.

    `model` is the model in which the groups were found, or a copy. Its parameters are replaced, so build optimizers
    afterwards. Updates size attributes that a forward pass reads, for the networks that are known to have them.
    """
    for (name, prune, dim), channels in removals(groups, gone).items():
        prune.__self__.pruning_dim = dim
        parent, _, last = name.rpartition(".")
        owner = model.get_submodule(parent)
        pruned = prune(getattr(owner, last), channels)
        if isinstance(pruned, nn.Parameter):  # a parameter outside layers is returned as a new one
            setattr(owner, last, pruned)
    for module in model.modules():
        _follow(module)


def removals(groups: Sequence[Group], gone: Sequence[Tensor]) -> dict[tuple[str, Any, int], list[int]]:
    """The positions to remove, by layer name, Torch-Pruning's function for the side, and dimension.

    Each layer and side occurs once, with the positions of all groups.
    """
    positions: dict[tuple[str, Any, int], list[Tensor]] = defaultdict(list)
    for group, mask in zip(groups, gone, strict=True):
        if mask.any():
            for member in group.members:
                positions[member.name, member.prune, member.dim].append(member.channels[mask[member.roots]])
    merged = {key: torch.cat(parts).unique().tolist() for key, parts in positions.items()}
    return {key: channels for key, channels in merged.items() if channels}


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy that shares parameters and buffers with the model. Replacing one in the copy does not change the model."""
    own = [*model.parameters(), *model.buffers()]
    kept = [
        leaf for module in model.modules() for leaf in tree_leaves(vars(module))
    ]  # results of a forward pass that it keeps
    memo: dict[int, Any] = {id(t): t.detach() for t in kept if isinstance(t, Tensor)}
    return copy.deepcopy(model, memo | {id(tensor): tensor for tensor in own})


@dataclass(frozen=True)
class Given:
    """The given net, its costs, and how it runs."""

    empty: (
        nn.Module
    )  # a copy without storage (device "meta"), or a full copy if the net does not run without values
    example: InputTensors  # for this copy
    macs: int  # of one input
    parameters: int
    silent: Mapping[str, Set[int]]  # layers that run in neither mode -> sizes of their parameters

    @staticmethod
    def of(model: nn.Module, example: InputTensors) -> Given:
        """Runs a copy of `model` on the example. Raises CompressitError if it does not run."""
        memo: dict[int, Any] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            empty = tensor.detach().to("meta")
            learns = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if learns else empty
        net, reads = copy.deepcopy(model, memo), _Reads()
        x = each_tensor(example, lambda tensor: tensor.to("meta"))
        try:
            cost = macs(_Watched(net, reads), x)
        except Exception:  # noqa: BLE001 - the net needs values
            net, x, reads = copy.deepcopy(model), example, _Reads()
            outputs(net, x)  # raises with the layer's name if it fails
            cost = macs(_Watched(net, reads), x)
        if reads.silent(net):
            with reads:
                runs_in_train_mode(net, x)
        return Given(net, x, cost, parameters(model), reads.silent(net))


def runs_in_train_mode(net: nn.Module, example: InputTensors) -> CompressitError | None:
    """The error if `net` does not run in train mode, else None. Leaves `net` in eval mode."""
    try:
        twice = each_tensor(example, lambda x: torch.cat([x, x]))  # batch norm needs two inputs
        outputs(net.train(), twice)
    except CompressitError as error:
        return error
    finally:
        net.eval()
    return None


def outputs(model: nn.Module, x: InputTensors) -> list[Tensor]:
    """The tensors that a forward pass returns. If it fails, raises CompressitError that names the layer."""
    entered: list[str] = []
    handles: list[Any] = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: entered.append(name)))
            handles.append(module.register_forward_hook(lambda *_: entered.__delitem__(-1)))
    try:
        with torch.no_grad():
            found = call(model, x)
    except Exception as error:
        where = entered[-1] if entered else f"{type(model).__name__} itself"
        raise CompressitError(
            f"a forward pass fails in {where}{line_of(error)}: {type(error).__name__}: {error}",
            f"the inputs have shape {', '.join(str(tuple(tensor.shape)) for tensor in tensors_of(x))}",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


class _Reads(TorchFunctionMode):
    """In this block, records which tensors are passed to torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        return func(*args, **(kwargs or {}))

    def silent(self, net: nn.Module) -> dict[str, set[int]]:
        """Layers with no parameter passed to a torch function, and the sizes of their parameters."""
        return {
            name: {size for weight in own for size in weight.shape}
            for name, module in net.named_modules()
            if (own := list(module.parameters(recurse=False))) and not self.seen & set(map(id, own))
        }


class _Watched(nn.Module):
    """Wraps a net so that `reads` records only its forward pass."""

    def __init__(self, net: nn.Module, reads: _Reads) -> None:
        super().__init__()
        self.net, self.reads = net, reads

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        with self.reads:
            return self.net(*inputs, **named)


def _follow(module: Any) -> None:
    """Updates sizes that a forward pass reads from attributes instead of weights."""
    kind = f"{type(module).__module__}.{type(module).__name__}"
    if kind == "torchvision.models.vision_transformer.VisionTransformer":
        module.hidden_dim = module.class_token.shape[-1]
    elif isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "head_dim"):  # timm
        width = module.qkv.out_features // 3
        if module.head_dim != width // module.num_heads:
            module.head_dim = width // module.num_heads
            module.scale = module.head_dim**-0.5
            if hasattr(module, "attn_dim"):
                module.attn_dim = width
