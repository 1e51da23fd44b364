"""Checks, before any work, that a net can be worked on. Errors name the layer or attribute concerned.

Also removes known wrappers, and detaches results that a forward pass left on a net, so that it can be copied and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from compressit.datasets.batched import InputTensors, call, described, each_tensor, examples_in, tensors_of
from compressit.errors import CompressitError
from compressit.formatting import counted

_WRAPPERS = {
    "DataParallel": "module", "DistributedDataParallel": "module", "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}  # fmt: skip
"""torch's wrappers by class name (importing torch.compile takes seconds), with the attribute that holds the net."""
_COMPUTED = {
    "torch.nn.utils.prune": ("masked by torch.nn.utils.prune", "torch.nn.utils.prune.remove(layer, '{}')"),
    "torch.nn.utils.weight_norm": (
        "computed by torch.nn.utils.weight_norm", "torch.nn.utils.remove_weight_norm(layer, '{}')",
    ),
}  # fmt: skip
_PLAIN = (bool, int, float, str, type(None), Tensor)
_KEEPING = "create it where it is used instead of storing it on the net"
_OWN = ("_parameters", "_modules")  # attributes of every module that hold no results


def unwrapped(model: nn.Module) -> nn.Module:
    """The net inside torch's wrappers: DataParallel, DistributedDataParallel, torch.compile, AveragedModel."""
    kind = type(model)
    inner = _WRAPPERS.get(kind.__name__) if kind.__module__.startswith("torch.") else None
    return unwrapped(getattr(model, inner)) if inner else model


def _refuse_unworkable(model: nn.Module) -> None:
    """Raises CompressitError for nets that no stage supports: TorchScript, FSDP, masks, tensors without values."""
    if isinstance(model, torch.jit.ScriptModule):
        raise CompressitError(
            "the net is a TorchScript module", "pass the Python module, and script the result"
        )
    for at, layer in model.named_modules():
        if type(layer).__name__ == "FullyShardedDataParallel":
            raise CompressitError(
                f"{_called(at)} is wrapped in FullyShardedDataParallel",
                "load its full state dict into the plain net, and pass that",
            )
        if at and type(layer).__name__ == "OptimizedModule":
            raise CompressitError(
                f"{_called(at)} is compiled",
                "pass the net uncompiled; `compute: {compile: true}` in a recipe compiles the whole net",
            )
        for hook in layer._forward_pre_hooks.values():  # pyright: ignore[reportPrivateUsage]
            found = _COMPUTED.get(type(hook).__module__)
            if found is not None:
                what, remedy = found
                name = str(getattr(hook, "_tensor_name", getattr(hook, "name", "weight")))
                call = remedy.format(name)
                raise CompressitError(f"'{name}' of {_called(at)} is {what}", f"call {call} on it first")
    if (fault := _without_values(model)) is not None:
        raise fault
    known = {id(parameter) for parameter in model.parameters()}
    for name, leaf in _attributes(model):
        inside = leaf.parameters() if isinstance(leaf, nn.Module) else [leaf]
        if any(
            isinstance(p, Tensor) and p.requires_grad and p.is_leaf and id(p) not in known for p in inside
        ):
            raise CompressitError(
                f"'{name}', a {type(leaf).__name__}, requires gradients, but is not registered with the net",
                "put layers in an nn.ModuleList or nn.ModuleDict, and make tensors nn.Parameters",
            )


def copied(model: nn.Module, same_parameters: bool = False) -> nn.Module:
    """A deep copy. Results that a forward pass left on the net are copied too, detached from their graph.

    `same_parameters`: share the parameters with the original, for a net that is only run. If an attribute cannot be
    copied, raises CompressitError that names it.
    """
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in _computed(model).values()}
    if same_parameters:
        memo |= {id(parameter): parameter for parameter in model.parameters()}
    try:
        return copy.deepcopy(model, dict(memo))
    except Exception as error:
        found = _culprit(model, memo)
        what = f"it keeps {found}" if found else f"{type(error).__name__}: {error}"
        raise CompressitError(f"the net cannot be copied: {what}", _KEEPING if found else None) from error


@contextmanager
def in_eval_mode(model: nn.Module) -> Generator[None]:
    """A block in which the net is in eval mode. Restores the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    if any(mode for _, mode in modes):
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training is not mode:  # setting costs a small net's forward pass a tenth of its time
                module.training = mode


def let_go(model: nn.Module) -> None:
    """Detaches results of a forward pass that the net keeps on itself, in place."""
    for layer in model.modules():
        for holder in (vars(layer), layer._buffers):  # pyright: ignore[reportPrivateUsage]
            for name, value in list(holder.items()):
                if name not in (*_OWN, "_buffers") and any(_is_computed(leaf) for _, leaf in _leaves(value)):
                    holder[name] = tree_map(lambda leaf: leaf.detach() if _is_computed(leaf) else leaf, value)


def try_out(model: nn.Module, x: InputTensors | None) -> bool:
    """Checks on a copy that the net can still be copied and saved after training on inputs like `x` (N, ...).

    Returns whether the net runs on them. A net that does not run is accepted, since not every stage runs it.
    Raises CompressitError for nets that no stage supports (TorchScript, FSDP, masks, tensors without values), and for
    a net that changes its inputs. Also for three kinds of attributes, which it names: computed from parameters when
    the net is built (a copy would keep the old value); a tensor that a forward pass creates or reshapes; and an
    attribute that cannot be copied after a forward pass.
    """
    _refuse_unworkable(model)
    computed = _computed(model)
    trial = copied(model)
    before, kept = _shapes(trial), _kept(trial)
    given = None if x is None else each_tensor(x, lambda tensor: tensor.detach().clone())
    ran = given is not None and _runs(trial, given)
    if given is not None and any(tensor._version for tensor in tensors_of(given)):
        raise changes_inputs()
    again = _kept(trial)
    for name in computed:
        if not ran or again.get(name) is kept[name]:
            raise CompressitError(
                f"'{name}' was computed from the net's parameters, and a copy of the net would keep its old value",
                "compute it in forward, from the parameters"
                + ("" if ran else "; if it is left from a forward pass, detach or delete it"),
            )
    if not ran:
        return False
    after = _shapes(trial)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise CompressitError(
            f"a forward pass changes the net's tensors: '{changed[0]}' goes from "
            f"{before.get(changed[0], 'nothing')} to {after.get(changed[0], 'nothing')}",
            "create all parameters and buffers in __init__, or use a buffer with persistent=False",
        )
    let_go(trial)
    same: dict[int, Any] = {id(t): t for t in (*trial.parameters(), *trial.buffers())}
    if found := _culprit(trial, same):
        raise CompressitError(f"after a forward pass the net cannot be copied: it keeps {found}", _KEEPING)
    return True


@torch.no_grad()
def check_answers(model: nn.Module, x: InputTensors, check: Callable[[object, int], None]) -> None:
    """Raises CompressitError unless the net gives valid outputs in eval mode, for `x` (N, ...), N > 1, and for the
    first of them.

    Valid outputs pass `check(outputs, N)` and have a softmax without NaN. Leaves the net in eval mode.
    """
    model.eval()
    for inputs in (x, each_tensor(x, lambda tensor: tensor[:1])):
        what, count = described(inputs), examples_in(inputs)
        try:
            outputs = call(model, inputs)
        except Exception as error:
            raise CompressitError(
                f"the net does not run in eval mode on {what}: {place_of(error, model)}{type(error).__name__}: {error}",
                "it must accept batches of any size, including one" if count == 1 else None,
            ) from error
        check(outputs, count)
        outputs = outputs.float()
        if outputs.log_softmax(1).isnan().any():
            raise CompressitError(
                f"the untrained net outputs {_first(outputs)} for {what}: {_first_wrong(model)}",
                "look for weights that are not finite, an overflow or a division by zero",
            )


def changes_inputs() -> CompressitError:
    """The error for a net that changes its inputs in place."""
    return CompressitError(
        "the net changes its inputs in place",
        "make its first operation create a new tensor: no `inplace=True`, `x.mul_(2)` or `x[...] = 0`",
    )


def fault_of(model: nn.Module, x: InputTensors) -> CompressitError | None:
    """The reason a net failed on inputs `x` if its tensors have no values or another floating type; else None."""
    model = unwrapped(model)
    if (fault := _without_values(model)) is not None:
        return fault
    given = next((tensor.dtype for tensor in tensors_of(x) if tensor.is_floating_point()), None)
    for name, weight in model.named_parameters():
        if given is not None and weight.is_floating_point() and weight.dtype != given:
            return CompressitError(
                f"the net's weights are {weight.dtype} ('{name}'), but its inputs are {given}",
                "pass it as float32: net.float(). For bfloat16 use `compute: {precision: bf16}` in a recipe, for "
                "float64 `precision: fp64`",
            )
    return None


def place_of(error: BaseException, model: nn.Module) -> str:
    """`in '0.conv1' (Conv2d): `, the innermost layer in the error's traceback; empty if there is none."""
    found = layer_of(error, model)
    return f"in '{found[0]}' ({type(found[1]).__name__}): " if found else ""


def layer_of(error: BaseException, model: nn.Module) -> tuple[str, nn.Module] | None:
    """The name and module of the innermost layer in an error's traceback; None if there is none below the net."""
    names = {id(layer): (at, layer) for at, layer in model.named_modules() if at}
    found, trace = None, error.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


def check_tensor(outputs: object) -> Tensor:
    """A net's output. Raises CompressitError if it is not one tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    raise CompressitError(
        f"the net's output is not one tensor: {_described(outputs)}",
        "wrap it in a module whose forward returns only one tensor, like logits (N, classes)",
    )


def check_logits(outputs: object, classes: int | None = None, examples: int | None = None) -> None:
    """Raises CompressitError unless the outputs are one tensor of logits (N, K) with N = `examples`, K >= `classes`."""
    shape = _check_floats(outputs, 2, examples, "logits (N, classes)")
    if classes is not None and shape[1] < classes:
        raise CompressitError(
            f"the net returns outputs of shape {shape}, but labels go up to {classes - 1}",
            f"it must return logits of shape (N, {classes})",
        )


def check_values(outputs: object, count: int, examples: int | None = None) -> None:
    """Raises CompressitError unless the outputs are one tensor of floats (N, count) with N = `examples`."""
    shape = _check_floats(outputs, 2, examples, f"numbers (N, {count})")
    if shape[1] != count:
        raise CompressitError(
            f"the net returns outputs of shape {shape}, but targets have {counted(count, 'number')}",
            f"it must return numbers of shape (N, {count})",
        )


def check_maps(outputs: object, classes: int, examples: int | None = None) -> None:
    """Raises CompressitError unless the outputs are logits of pixels (N, K, H, W), N = `examples`, K >= `classes`."""
    shape = _check_floats(outputs, 4, examples, f"logits of every pixel (N, {classes}, height, width)")
    if shape[1] < classes:
        raise CompressitError(
            f"the net returns outputs of shape {shape}, but pixels have {classes} classes",
            f"it must return logits of shape (N, {classes}, height, width)",
        )


def _check_floats(outputs: object, dims: int, examples: int | None, wanted: str) -> tuple[int, ...]:
    """The shape of the outputs, if they are one tensor of floats with so many dimensions."""
    tensor = check_tensor(outputs)
    shape = tuple(tensor.shape)
    if len(shape) != dims or examples not in (None, shape[0]):
        of = f" for {counted(examples, 'input')}" if examples is not None else ""
        dropped = ", for one input too: squeeze() removes that dimension, flatten(1) does not"
        raise CompressitError(
            f"the net returns outputs of shape {shape}{of}",
            f"it must return {wanted}" + (dropped if examples == 1 else ""),
        )
    if not tensor.is_floating_point() or tensor.layout is not torch.strided:
        kind = f"{tensor.dtype}, {tensor.layout}".removesuffix(", torch.strided")
        raise CompressitError(
            f"the net returns outputs of type {kind}", f"it must return {wanted.split()[0]}: plain floats"
        )
    return shape


def _runs(model: nn.Module, x: InputTensors) -> bool:
    """Runs the net in eval mode and in train mode. Returns whether it ran in at least one of them."""
    ran = False
    for training in (False, True):
        try:
            with torch.enable_grad():
                call(model.train(training), x)
            ran = True
        except Exception:  # noqa: BLE001 - a stage that runs the net will fail alike and report it
            continue
    return ran


def _kept(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that the net's modules hold besides parameters, by name (`0.features`, `seen[0]`)."""
    return {name: leaf for name, leaf in _attributes(model) if isinstance(leaf, Tensor)}


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Everything that the net's modules hold besides parameters and layers, by name; also inside lists and dicts."""
    for at, layer in model.named_modules():
        for holder in (vars(layer), layer._buffers):  # pyright: ignore[reportPrivateUsage]
            for name, value in holder.items():
                if name not in (*_OWN, "_buffers"):
                    for path, leaf in _leaves(value):
                        yield f"{at}.{name}{path}".lstrip("."), leaf


def _computed(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in _kept(model).items() if _is_computed(value)}


def _is_computed(value: object) -> bool:
    return isinstance(value, Tensor) and value.grad_fn is not None


def _leaves(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _PLAIN):  # most attributes
        yield "", value
        return
    if isinstance(value, (dict, list, tuple)) and not value:  # most of the rest: empty dicts of hooks
        return
    for path, leaf in tree_flatten_with_path(value)[0]:
        yield keystr(path), leaf


def _culprit(model: nn.Module, memo: Mapping[int, Any]) -> str | None:
    """The first attribute that cannot be copied: `'head.rest', a generator: …`."""
    for at, layer in model.named_modules():
        for name, value in vars(layer).items():
            if name not in _OWN:
                try:
                    copy.deepcopy(value, dict(memo))
                except Exception as error:  # noqa: BLE001 - copying may raise anything
                    return f"'{f'{at}.{name}'.lstrip('.')}', a {type(value).__name__}: {error}"
    return None


def _without_values(model: nn.Module) -> CompressitError | None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            return CompressitError(
                f"'{name}' has no shape yet: it belongs to a lazy layer",
                "run the net once on an input first",
            )
        if tensor.is_meta:
            return CompressitError(
                f"'{name}' has no values: it is on the device 'meta'",
                "build the net on the CPU, or load its values first",
            )
    return None


def _first_wrong(model: nn.Module) -> str:
    """The first parameter or buffer that is not finite, in words."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.isfinite().all():
            return f"'{name}' holds {_first(tensor)}"
    return "its tensors are finite"


def _first(tensor: Tensor) -> str:
    """The first value that is not finite."""
    return f"{float(tensor[~tensor.isfinite()][0]):g}"


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {n: tuple(value.shape) for n, value in model.state_dict().items() if isinstance(value, Tensor)}


def _described(outputs: object) -> str:
    """`tuple of 2`, `dict of logits, loss`."""
    kind = type(outputs).__name__
    if isinstance(outputs, Mapping):
        return f"{kind} of {', '.join(map(str, outputs))}"
    return f"{kind} of {len(outputs)}" if isinstance(outputs, list | tuple) else kind


def _called(at: str) -> str:
    return f"'{at}'" if at else "the net"
