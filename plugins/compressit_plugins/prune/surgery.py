"""Taking chosen channels out of a model, and trying it on an empty copy first."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressit import CompressitError
from compressit_plugins.prune.coupling import Group


@torch.no_grad()
def remove(model: nn.Module, groups: Sequence[Group], gone: Sequence[Tensor]) -> None:
    """Takes the channels that are True in `gone` (bool (width,) for each group) out of `model`, in place.

    `model` is the one the groups were found in, or a copy. Its parameters become new ones, so optimizers must be
    built afterwards. Sizes that a forward pass reads from attributes follow in the networks where they are known.
    """
    for (name, prune, dim), channels in removals(groups, gone).items():
        _remove(model, name, prune, dim, channels)
    for module in model.modules():
        _follow(module)


def removals(groups: Sequence[Group], gone: Sequence[Tensor]) -> dict[tuple[str, Any, int], list[int]]:
    """Which positions go: by the layer's name, Torch-Pruning's function for the side, and the dimension.

    Each layer and side comes once: positions are those of the layer as it is, whichever group they come from.
    """
    positions: dict[tuple[str, Any, int], list[Tensor]] = defaultdict(list)
    for group, mask in zip(groups, gone, strict=True):
        if mask.any():
            for member in group.members:
                positions[member.name, member.prune, member.dim].append(member.channels[mask[member.roots]])
    merged = {key: torch.cat(parts).unique().tolist() for key, parts in positions.items()}
    return {key: channels for key, channels in merged.items() if channels}


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are the model's own: what replaces one there leaves the model alone."""
    own = [*model.parameters(), *model.buffers()]
    kept = [
        leaf for module in model.modules() for leaf in tree_leaves(vars(module))
    ]  # results it keeps on itself
    memo: dict[int, Any] = {id(t): t.detach() for t in kept if isinstance(t, Tensor)}
    return copy.deepcopy(model, memo | {id(tensor): tensor for tensor in own})


def empty_copy(model: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy without storage (device "meta") and its example: counting and trying on it costs next to nothing.

    Where the network cannot run without values, a full copy and the example itself. Raises CompressitError where it
    cannot run on the example at all.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        empty = tensor.detach().to("meta")
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if parameter else empty
    try:
        empty_model, empty_example = copy.deepcopy(model, memo), example.to("meta")
        output_shapes(empty_model, empty_example)
    except CompressitError:
        full = copy.deepcopy(model)
        output_shapes(full, example)
        return full, example
    return empty_model, empty_example


def output_shapes(model: nn.Module, example: Tensor) -> list[torch.Size]:
    """Shapes of the tensors that a forward pass returns. Raises CompressitError that names the layer it failed in."""
    with entered(model) as stack, torch.no_grad():
        try:
            outputs = model(example)
        except Exception as error:
            where = f"in {stack[-1]}" if stack else f"in {type(model).__name__} itself"
            raise CompressitError(
                f"a forward pass fails {where}: {type(error).__name__}: {error}",
                f"it was given one input of shape {tuple(example.shape)}",
            ) from error
    return [leaf.shape for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def unseen(model: nn.Module, example: Tensor) -> dict[str, set[int]]:
    """Layers with parameters that a forward pass runs neither in eval mode nor in train mode, and their sizes.

    `model` may be without storage; it ends in eval mode.
    """
    reads = _Reads()
    try:
        with reads:
            output_shapes(model, example)
            if _unread(model, reads):
                with suppress(CompressitError):
                    output_shapes(model.train(), torch.cat([example, example]))  # batch norm needs two
    finally:
        model.eval()
    return {
        name: {size for parameter in module.parameters(recurse=False) for size in parameter.shape}
        for name, module in _unread(model, reads).items()
    }


class _Reads(TorchFunctionMode):
    """A block that remembers which tensors were given to torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        return func(*args, **(kwargs or {}))


def _unread(model: nn.Module, reads: _Reads) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if (own := list(module.parameters(recurse=False))) and not any(id(p) in reads.seen for p in own)
    }


def check(pruned: nn.Module, given: nn.Module, example: Tensor) -> None:
    """Raises CompressitError unless `pruned`, which is changed, returns what `given` does in shape, and runs in
    train mode if that does."""
    try:
        shapes = output_shapes(pruned.eval(), example)
    except CompressitError as error:
        raise CompressitError(
            f"after pruning, {error.message}",
            "a size written into the network's own code does not follow: `ignore` the layer it belongs to",
        ) from error
    wanted = output_shapes(given, example)
    if shapes != wanted:
        raise CompressitError(
            f"pruning would change the outputs from {_text(wanted)} to {_text(shapes)}",
            "`ignore` the layers that make them",
        )
    pair = torch.cat([example, example])  # batch norm needs two
    try:
        output_shapes(pruned.train(), pair)
    except CompressitError as error:
        try:
            output_shapes(copy.deepcopy(given).train(), pair)
        except CompressitError:
            return  # nor could the given one be trained on this input
        raise CompressitError(
            f"the pruned model could not be trained: {error.message}",
            "this layer runs only in training and was not traced: build the network without it "
            "(`aux_logits: false`), or `ignore` the layers whose channels it reads",
        ) from error


def _remove(model: nn.Module, name: str, prune: Callable[..., Any], dim: int, channels: list[int]) -> None:
    pruner: Any = getattr(prune, "__self__")  # noqa: B009 - a bound method of Torch-Pruning
    pruner.pruning_dim = dim
    parent, _, last = name.rpartition(".")
    owner = model.get_submodule(parent)
    pruned = prune(getattr(owner, last), channels)
    if isinstance(pruned, nn.Parameter):  # one outside layers comes back as a new one
        setattr(owner, last, pruned)


def _follow(module: Any) -> None:
    """Sizes that a forward pass takes from an attribute and not from a weight."""
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


@contextmanager
def entered(model: nn.Module) -> Generator[list[str]]:
    """The names of the modules a forward pass is in, outermost first; where it failed, they stay."""
    stack: list[str] = []
    handles: list[Any] = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
            handles.append(module.register_forward_hook(lambda *_: _left(stack)))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _left(stack: list[str]) -> None:
    stack.pop()


def _text(shapes: Sequence[torch.Size]) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes)
